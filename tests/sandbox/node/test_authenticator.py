"""The token webhook: which tokens it takes, why it refuses the others, and what it answers over TLS."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import pytest

from sandbox.iam.sigv4 import Identity, Refused
from sandbox.node import authenticator
from tests.support import account, eks_token
from tests.support.eks_token import closed, opened

HOST, REGION, CLUSTER = "127.0.0.1:4599", "us-east-1", "runbook"
ACCOUNT = "123456789012"
USER = Identity(f"arn:aws:iam::{ACCOUNT}:user/admin", ACCOUNT, "AIDAADMIN", "AKIAADMINADMINADMIN1", "the-secret")
ROLE = f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/me"
SESSION = Identity(ROLE, ACCOUNT, "AROADEPLOY:me", "ASIADEPLOYDEPLOYDEP1", "other", "st")
HOSTS = {HOST, "sts.us-east-1.amazonaws.com", "sts.amazonaws.com"}


def find(access_key, session_token):
    known = {(who.access_key, who.session_token): who for who in (USER, SESSION)}
    return known.get((access_key, session_token))


@lru_cache  # a client takes longer to make than all that is tested here
def made(who=USER, cluster=CLUSTER, secret=None, endpoint=f"http://{HOST}", expires=60):
    session = account.session(who.access_key, secret or who.secret, who.session_token, region_name=REGION)
    return eks_token.made(session, cluster, endpoint, expires)


def changed(old, new):
    """A good token in whose URL `old` is replaced, its signature left as it is."""
    url = opened(made())
    assert old in url
    return closed(url.replace(old, new))


def verify(token, now=None, cluster=CLUSTER):
    rules = {"cluster_name": cluster, "region": REGION, "hosts": HOSTS, "find": find}
    return authenticator.verify(token, **rules, now=now or datetime.now(UTC))


@pytest.mark.parametrize("who", [USER, SESSION])
@pytest.mark.parametrize(
    "endpoint", [f"http://{HOST}", "https://sts.us-east-1.amazonaws.com", "https://sts.amazonaws.com"]
)
def test_a_good_token_gives_the_identity_of_its_maker(who, endpoint):
    assert verify(made(who, endpoint=endpoint)) == who


def test_a_token_is_valid_for_15_minutes_whatever_expiry_its_url_has():
    assert verify(made(expires=60), now=datetime.now(UTC) + timedelta(minutes=14)) == USER


def unused_bits(token):
    """The token with other bits where base64url has none: it decodes to the same URL."""
    token = (
        token if len(token.removeprefix("k8s-aws-v1.")) % 4 else closed(opened(token).replace("http://", "https://"))
    )
    return token[:-1] + chr(ord(token[-1]) + 1)


TODAY = f"{datetime.now(UTC):%Y%m%d}"
BAD = {
    "another prefix": (lambda: made().replace("k8s-aws-v1.", "k8s-aws-v2."), "begins with k8s-aws-v1."),
    "no token": (lambda: "", "begins with"),
    "garbage": (lambda: authenticator.PREFIX + "%%%", "base64url"),
    "padding": (lambda: made() + "=", "base64url"),
    "unused bits": (lambda: unused_bits(made()), "unused last bits"),
    "too long": (lambda: made() + "A" * 4096, "at most 4096"),
    "no URL": (lambda: closed("hello"), "scheme"),
    "a line end": (lambda: changed("Version=", "\nVersion="), "printable"),
    "another scheme": (lambda: changed("http://", "ftp://"), "scheme 'ftp'"),
    "another host": (lambda: made(endpoint="http://127.0.0.1:9999"), "got the host '127.0.0.1:9999'"),
    "another domain": (lambda: made(endpoint="https://sts.amazonaws.com.evil.example"), "got the host"),
    "a user in the host": (lambda: changed("http://", "http://me@"), "got the host"),
    "another path": (lambda: changed("/?", "/latest?"), "path /"),
    "a fragment": (lambda: changed("Action=", "Action=#"), "fragment"),
    "another parameter": (lambda: closed(opened(made()) + "&Name=x"), "'Name' too"),
    "a parameter twice": (lambda: closed(opened(made()) + "&Action=GetCallerIdentity"), "twice"),
    "a parameter in another case": (lambda: closed(opened(made()) + "&action=GetCallerIdentity"), "'action' too"),
    "no query": (lambda: closed(f"http://{HOST}/"), "Action, got none"),
    "a broken query": (lambda: closed(f"http://{HOST}/?Action"), "name=value"),
    "a parameter missing": (lambda: changed("Version=2011-06-15&", ""), "Version, got none"),
    "another action": (lambda: changed("GetCallerIdentity", "AssumeRole"), "Action to be GetCallerIdentity"),
    "another version": (lambda: changed("2011-06-15", "2012-06-15"), "Version"),
    "another algorithm": (lambda: changed("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), "X-Amz-Algorithm"),
    "cluster not signed": (lambda: changed("host%3Bx-k8s-aws-id", "host"), "X-Amz-SignedHeaders"),
    "host not signed": (lambda: changed("host%3Bx-k8s-aws-id", "x-k8s-aws-id"), "X-Amz-SignedHeaders"),
    "another region": (lambda: changed("%2Fus-east-1%2F", "%2Feu-west-1%2F"), "scope"),
    "another service": (lambda: changed("%2Fsts%2F", "%2Fs3%2F"), "scope"),
    "another form of credential": (lambda: changed("%2Faws4_request", ""), "key/date/region/service"),
    "no date": (lambda: changed(f"X-Amz-Date={TODAY}T", f"X-Amz-Date={TODAY}"), "expected X-Amz-Date as"),
    "lives too long": (lambda: changed("X-Amz-Expires=60", "X-Amz-Expires=901"), "X-Amz-Expires"),
    "never lives": (lambda: changed("X-Amz-Expires=60", "X-Amz-Expires=0"), "X-Amz-Expires"),
    "changed after signing": (lambda: changed("X-Amz-Expires=60", "X-Amz-Expires=900"), "expected a signature"),
    "another cluster": (lambda: made(cluster="other"), "expected a signature for the cluster runbook"),
    "a wrong secret": (lambda: made(secret="guessed"), "expected a signature"),
    "no signature": (lambda: changed("X-Amz-Signature=", "X-Amz-Signature=0"), "expected a signature"),
    "an unknown key": (lambda: changed("AKIAADMIN", "AKIANOBOD"), "access key"),
    "a session token too many": (lambda: closed(opened(made()) + "&X-Amz-Security-Token=st"), "access key"),
    "a session's key without its token": (
        lambda: made(replace(SESSION, session_token=None)),
        "access key",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tokens_are_refused_with_the_reason(name):
    make, reason = BAD[name]
    with pytest.raises(Refused) as refusal:
        verify(make())
    assert reason in str(refusal.value)


@pytest.mark.parametrize(("minutes", "reason"), [(16, "expired"), (-6, "in the future"), (-0.25, "in the future")])
def test_expired_and_future_tokens_are_refused(minutes, reason):
    with pytest.raises(Refused, match=reason):
        verify(made(), now=datetime.now(UTC) + timedelta(minutes=minutes))


def test_an_old_token_cannot_be_given_a_new_date():
    token, later = made(), datetime.now(UTC) + timedelta(minutes=16)
    old = opened(token).partition("X-Amz-Date=")[2][:16]
    with pytest.raises(Refused, match="expected a signature|scope"):
        verify(closed(opened(token).replace(old, f"{later:%Y%m%dT%H%M%SZ}")), now=later)


def test_a_session_has_its_roles_access():
    assert SESSION.principal == "arn:aws:iam::123456789012:role/deployer"
    assert USER.principal == USER.arn


def test_an_identity_hides_its_secrets():
    assert USER.secret not in repr(USER) and "'st'" not in repr(SESSION)
