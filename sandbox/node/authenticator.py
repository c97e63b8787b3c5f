"""Checks a cluster's bearer tokens, `k8s-aws-v1.…`, as EKS does.

A token is a presigned STS GetCallerIdentity URL. aws-iam-authenticator checks the form of the URL and sends it to STS.
The sandbox has no such STS, so the webhook recomputes the signature and makes the checks of STS too.
"""

from __future__ import annotations

import base64
import hmac
import re
from datetime import datetime, timedelta
from urllib.parse import SplitResult, parse_qsl, urlsplit

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from sandbox.iam.sigv4 import (
    ALGORITHM,
    SIGNATURE,
    FindIdentity,
    Identity,
    Refused,
    Scope,
    expected,
    moment,
    scope,
)

PREFIX = "k8s-aws-v1."
CLUSTER_HEADER = "x-k8s-aws-id"
MAX_TOKEN = 4096  # characters; aws-iam-authenticator, pkg/token/token.go: maxTokenLenBytes
LIFETIME = timedelta(minutes=15)  # token.go: presignedURLExpiration, from X-Amz-Date, whatever X-Amz-Expires says
# How far in the future a date may be. AWS allows 5 minutes; here clients have this machine's clock, and a date in the
# future would let a token live longer than LIFETIME.
SKEW = timedelta(seconds=10)

REQUIRED = {  # query parameters with one valid value
    "Action": "GetCallerIdentity",
    "Version": "2011-06-15",
    "X-Amz-Algorithm": ALGORITHM,
    "X-Amz-SignedHeaders": f"host;{CLUSTER_HEADER}",  # the webhook knows no other header of the signed request
}
VARIABLE = {"X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Signature"}  # required, with any value
OPTIONAL = {"X-Amz-Security-Token"}


def verify(
    token: str, *, cluster_name: str, region: str, hosts: set[str], find: FindIdentity, now: datetime
) -> Identity:
    """Return the identity that made the token for this cluster.

    The checks are those of aws-iam-authenticator, and those of STS: scope, date, access key, signature.

    Args:
        token: the bearer token.
        cluster_name: the cluster that the token must be for.
        region: the region of the credential scope.
        hosts: the STS hosts, with port, that the URL may name.
        find: returns the owner of an access key.
        now: the present time.

    Raises:
        Refused: with the reason.

    Source: aws-iam-authenticator, pkg/token/token.go, tokenVerifier.Verify.
    """
    url = _url(token)
    parts = urlsplit(url)
    _check_url(parts, hosts)
    query = _query(parts)
    _check_times(query, now)
    within = _scope(query, region, parts.netloc)
    identity = find(within.access_key, query.get("X-Amz-Security-Token"))
    if identity is None:
        raise Refused("expected an access key (and session token) that the account knows, got another.")
    _check_signature(parts, query, within, identity, cluster_name)
    return identity


def _url(token: str) -> str:
    if len(token) > MAX_TOKEN:
        raise Refused(f"expected a token of at most {MAX_TOKEN} characters, got {len(token)}.")
    if not token.startswith(PREFIX):
        raise Refused(f"expected a token that begins with {PREFIX}, got another; make one with aws eks get-token.")
    body = token.removeprefix(PREFIX)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", body) or len(body) % 4 == 1:
        raise Refused("expected base64url without padding after the prefix, got something else.")
    content = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    if base64.urlsafe_b64encode(content).rstrip(b"=").decode() != body:  # else one signature has several spellings
        raise Refused("expected base64url whose unused last bits are 0, got others (RFC 4648, section 3.5).")
    url = content.decode("latin-1")
    if not re.fullmatch(r"[!-~]+", url):  # urlsplit drops tabs and line ends, which the signature covers
        raise Refused("expected a URL of printable ASCII in the token, got something else.")
    return url


def _check_url(parts: SplitResult, hosts: set[str]) -> None:
    if parts.scheme not in ("https", "http"):
        raise Refused(f"expected an https or http URL, got the scheme {parts.scheme[:20]!r}.")
    if parts.netloc not in hosts:
        raise Refused(f"expected a URL of one of {sorted(hosts)}, got the host {parts.netloc[:100]!r}.")
    if parts.path != "/" or parts.fragment:
        raise Refused(f"expected the path / and no fragment in the URL, got {parts.path[:100]!r}.")


def _query(parts: SplitResult) -> dict[str, str]:
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise Refused("expected a query of name=value parameters, got something else.") from None
    query = dict(pairs)
    if strange := sorted(set(query) - set(REQUIRED) - VARIABLE - OPTIONAL):
        raise Refused(f"expected only the parameters of a presigned GetCallerIdentity, got {strange[0][:40]!r} too.")
    if len(pairs) != len(query):
        raise Refused("expected each query parameter once, got one of them twice.")
    if missing := sorted((set(REQUIRED) | VARIABLE) - set(query)):
        raise Refused(f"expected the query parameter {missing[0]}, got none.")
    for name, value in REQUIRED.items():
        if query[name] != value:
            raise Refused(f"expected {name} to be {value}, got {query[name][:60]!r}.")
    return query


def _check_times(query: dict[str, str], now: datetime) -> None:
    expires = query["X-Amz-Expires"]
    if not re.fullmatch(r"[0-9]{1,3}", expires) or not 1 <= int(expires) <= 900:
        raise Refused(f"expected X-Amz-Expires between 1 and 900 seconds, got {expires[:20]!r}.")
    date = moment(query["X-Amz-Date"])
    if now > date + LIFETIME:
        raise Refused(
            f"expected an X-Amz-Date of the last 15 minutes, got {query['X-Amz-Date']}: the token is expired."
        )
    if date > now + SKEW:
        raise Refused(f"expected an X-Amz-Date that is not in the future, got {query['X-Amz-Date']}; set the clock.")


def _scope(query: dict[str, str], region: str, host: str) -> Scope:
    within = scope(query["X-Amz-Credential"])
    signed_region = "us-east-1" if host == "sts.amazonaws.com" else region  # the global endpoint's region
    found = (within.day, within.region, within.service)
    if found != (query["X-Amz-Date"][:8], signed_region, "sts"):
        raise Refused(
            f"expected a credential scope of the date, {signed_region} and sts, got {'/'.join(found)[:80]!r}."
        )
    return within


def _check_signature(parts: SplitResult, query: dict, within: Scope, identity: Identity, cluster_name: str) -> None:
    kept = [pair for pair in parts.query.split("&") if not pair.startswith("X-Amz-Signature=")]
    request = AWSRequest("GET", parts._replace(query="&".join(kept)).geturl(), headers={CLUSTER_HEADER: cluster_name})
    right = expected(SigV4QueryAuth, identity, request, query["X-Amz-Date"], within)
    given = query["X-Amz-Signature"]
    if not SIGNATURE.fullmatch(given) or not hmac.compare_digest(right, given):
        raise Refused(
            f"expected a signature for the cluster {cluster_name} with the access key's secret, got another: "
            "the token is for another cluster, was changed, or is signed with another secret."
        )
