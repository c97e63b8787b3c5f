"""A pod's token becomes a session of a role only if each part of it is right: IRSA's call, which nobody signs."""

import hmac
import json
import time
from urllib.parse import urlencode

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from joserfc import jws

from lib.crypto import jwt
from lib.crypto.base64url import encoded
from tests.support.raw_aws import FORM

SUBJECT, AUDIENCE = "system:serviceaccount:runbook:fleet", "sts.amazonaws.com"
DENIED = "Not authorized to perform sts:AssumeRoleWithWebIdentity"
SIGNATURE = "Couldn't verify the signature"


class Federation:
    """Two clusters; an identity provider for the first; a role that trusts one service account of it."""

    def __init__(self, world):
        self.world, self.nodes = world, [world.active(name) for name in ("one", "two")]
        self.first, self.second = (node.issuer for node in self.nodes)
        self.iam, self.providers = world.client("iam"), []
        self.provide(self.first)
        made = self.iam.create_role(RoleName="federated", AssumeRolePolicyDocument=self.trust())
        self.role = made["Role"]["Arn"]
        self.iam.put_role_policy(RoleName="federated", PolicyName="p", PolicyDocument=policy(
            {"Effect": "Allow", "Action": "iam:ListRoles", "Resource": "*"}))  # fmt: skip

    def provide(self, issuer, clients=(AUDIENCE,)):
        made = self.iam.create_open_id_connect_provider(Url=issuer, ClientIDList=list(clients))
        self.providers.append(made["OpenIDConnectProviderArn"])

    def trust(self, *more, operator="StringEquals", subject=SUBJECT):
        place = self.first.removeprefix("https://")
        allow = {
            "Effect": "Allow", "Principal": {"Federated": self.providers[0]},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {operator: {f"{place}:sub": subject, f"{place}:aud": AUDIENCE}},
        }  # fmt: skip
        return policy(allow, *more)

    def set_trust(self, document):
        self.iam.update_assume_role_policy(RoleName="federated", PolicyDocument=document)

    def token(self, node=0, key=None, header=None, **claims):
        """A token as the API server of a cluster makes them; a claim of None is left out."""
        now, key = int(time.time()), key or self.nodes[node].key
        stated = {"iss": self.nodes[node].issuer, "sub": SUBJECT, "aud": [AUDIENCE], "iat": now - 5, "exp": now + 600}
        kept = {name: value for name, value in {**stated, **claims}.items() if value is not None}
        head = {"alg": "ES256", "kid": self.nodes[node].key.kid, **(header or {})}
        return jws.serialize_compact(head, json.dumps(kept), key, algorithms=[head["alg"]])

    def assume(self, token, **more):
        sts = self.world.client("sts", config=Config(signature_version=UNSIGNED))
        values = {"RoleArn": self.role, "RoleSessionName": "pod", "WebIdentityToken": token, **more}
        return sts.assume_role_with_web_identity(**values)

    def close(self):
        for arn in self.providers:
            self.iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        self.iam.delete_role_policy(RoleName="federated", PolicyName="p")
        self.iam.delete_role(RoleName="federated")


def keyed(token, secret):
    """The token's claims, signed by HMAC with a secret."""
    text = f"{encoded(json.dumps({**jwt.header(token), 'alg': 'HS256'}).encode())}.{token.split('.')[1]}"
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture
def federation(world):
    made = Federation(world)
    yield made
    made.close()


def test_a_token_becomes_a_session_with_the_roles_rights_alone(federation, refusal):
    made = federation.assume(federation.token())
    assert made["SubjectFromWebIdentityToken"] == SUBJECT and made["Audience"] == AUDIENCE
    keys = made["Credentials"]
    session = boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], "us-east-1")
    arn = federation.world.client("sts", session).get_caller_identity()["Arn"]
    assert arn == made["AssumedRoleUser"]["Arn"] == "arn:aws:sts::123456789012:assumed-role/federated/pod"
    iam = federation.world.client("iam", session)
    assert iam.list_roles()["Roles"] and refusal(iam.list_users)[:2] == (403, "AccessDenied")


def test_clusters_have_issuers_of_their_own_as_describe_cluster_says(federation):
    eks = federation.world.client("eks")
    found = [eks.describe_cluster(name=name)["cluster"]["identity"]["oidc"]["issuer"] for name in ("one", "two")]
    assert found == [federation.first, federation.second] and len(set(found)) == 2


REFUSED = {  # what makes the token: code, and a part of the message
    "tampered": (lambda f: jwt.tampered(f.token()), "InvalidIdentityToken", SIGNATURE),
    "alg none": (lambda f: jwt.unsigned(f.token()), "InvalidIdentityToken", SIGNATURE),
    "the public key as a secret": (
        lambda f: keyed(f.token(header={"alg": "ES256"}), f.nodes[0].key.as_pem(private=False)),
        "InvalidIdentityToken", SIGNATURE),
    "another cluster's key": (lambda f: f.token(key=f.nodes[1].key), "InvalidIdentityToken", SIGNATURE),
    "a key in its own header": (
        lambda f: f.token(key=f.nodes[1].key, header={"jwk": f.nodes[1].key.as_dict(private=False)}),
        "InvalidIdentityToken", SIGNATURE),
    "the claims of one, the signature of another": (
        lambda f: ".".join((*f.token(sub="system:serviceaccount:x:y").split(".")[:2], f.token().split(".")[2])),
        "InvalidIdentityToken", SIGNATURE),
    "another cluster's token": (lambda f: f.token(1), "InvalidIdentityToken", "No OpenIDConnect provider found"),
    "an issuer that only looks alike": (
        lambda f: f.token(iss=f"{f.first}/"), "InvalidIdentityToken", "No OpenIDConnect provider found"),
    "expired": (lambda f: f.token(exp=int(time.time()) - 1), "ExpiredTokenException", "Token expired"),
    "not valid yet": (lambda f: f.token(nbf=int(time.time()) + 60), "InvalidIdentityToken", "not valid yet"),
    "made in the future": (lambda f: f.token(iat=int(time.time()) + 60), "InvalidIdentityToken", "not valid yet"),
    "without an end": (lambda f: f.token(exp=None), "InvalidIdentityToken", "Missing a required claim"),
    "without a subject": (lambda f: f.token(sub=None), "InvalidIdentityToken", "Missing a required claim"),
    "the API server's audience": (
        lambda f: f.token(aud=["https://kubernetes.default.svc"]), "InvalidIdentityToken", "Incorrect token audience"),
    "a second audience": (
        lambda f: f.token(aud=[AUDIENCE, "istio-ca"]), "InvalidIdentityToken", "Incorrect token audience"),
    "without an audience": (lambda f: f.token(aud=None), "InvalidIdentityToken", "Incorrect token audience"),
    "another service account": (
        lambda f: f.token(sub="system:serviceaccount:runbook:watch"), "AccessDenied", DENIED),
    "another namespace": (lambda f: f.token(sub="system:serviceaccount:foo:fleet"), "AccessDenied", DENIED),
    "no token": (lambda f: "none", "InvalidIdentityToken", "not a valid JWT"),
    "claims that are a list": (
        lambda f: f"{encoded(b'{}')}.{encoded(b'[]')}.{encoded(b'x')}", "InvalidIdentityToken", "not a valid JWT"),
    "too long": (lambda f: "a" * 20001, "InvalidIdentityToken", "at most 20000 characters"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_token_with_one_wrong_part_is_refused_with_the_reason(federation, refusal, name):
    made, code, reason = REFUSED[name]
    status, found, message = refusal(federation.assume, token=made(federation))
    assert (status, found) == (403 if code == "AccessDenied" else 400, code) and reason in message
    assert made(federation)[:60] not in "".join(federation.world.lines)


def test_a_token_of_a_second_cluster_needs_a_trust_policy_that_names_it(federation, refusal):
    federation.provide(federation.second)
    assert refusal(federation.assume, token=federation.token(1))[1:] == ("AccessDenied", DENIED)


def test_a_providers_audiences_and_existence_count_and_a_cluster_that_is_gone_has_no_keys(federation, refusal):
    federation.provide(federation.second, ["other"])
    assert "Incorrect token audience" in refusal(federation.assume, token=federation.token(1))[2]
    federation.world.client("eks").delete_cluster(name="two")
    federation.world.until("cluster_deleted", "two")
    assert refusal(federation.assume, token=federation.token(1))[1] == "IDPCommunicationError"
    federation.iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=federation.providers.pop(0))
    assert "No OpenIDConnect provider" in refusal(federation.assume, token=federation.token())[2]


def test_trust_policies(federation, refusal):
    token = federation.token()
    role = {"Effect": "Deny", "Action": "sts:AssumeRoleWithWebIdentity"}
    allowed = {
        "like": federation.trust(operator="StringLike", subject="system:serviceaccount:runbook:*"),
        "the user's own": federation.trust({**role, "Principal": {"Federated": "arn:aws:iam::123456789012:saml/x"}}),
    }
    refused = {
        "another subject": federation.trust(operator="StringLike", subject="system:serviceaccount:foo:*"),
        "no pattern": federation.trust(subject="system:serviceaccount:runbook:*"),
        "an unknown operator": federation.trust(operator="ForAnyValue:StringLike"),
        "denied": federation.trust({**role, "Principal": {"Federated": federation.providers[0]}}),
        "denied to all": federation.trust({**role, "Principal": "*"}),
        "denied to all of AWS": federation.trust({**role, "Principal": {"AWS": "*"}}),
        "another action": federation.trust().replace("WithWebIdentity", ""),
        "everybody": federation.trust().replace(json.dumps({"Federated": federation.providers[0]}), '"*"'),
        "a service": federation.trust().replace("Federated", "Service"),
    }
    for document in allowed.values():
        federation.set_trust(document)
        assert federation.assume(token)["Credentials"]
    for name, document in refused.items():
        federation.set_trust(document)
        assert (name, *refusal(federation.assume, token=token)[:2]) == (name, 403, "AccessDenied")
    federation.set_trust(federation.trust())
    other = federation.role.replace("federated", "others")
    assert refusal(federation.assume, token=token, RoleArn=other)[1:] == ("AccessDenied", DENIED)
    assert refusal(federation.assume, token=token, RoleSessionName="a:b")[1:] == ("AccessDenied", DENIED)
    assert refusal(federation.assume, token=token, DurationSeconds=3601)[1] == "ValidationError"
    assert refusal(federation.assume, token=token, ProviderId="www.example.com")[1] == "NotImplemented"


def test_nothing_else_comes_through_without_a_signature(federation):
    good = {
        "Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": federation.role,
        "RoleSessionName": "pod", "WebIdentityToken": federation.token(),
    }  # fmt: skip

    def sent(form, path="/", method="POST", **headers):
        body = form if isinstance(form, str) else urlencode(form)
        return federation.world.raw(method, path, body, {**FORM, **headers})

    assert sent(good) == 200
    assert sent({**good, "Action": "AssumeRole"}) == 403
    assert sent({**good, "Action": "ListUsers", "Version": "2010-05-08"}) == 403
    assert sent({**good, "Tag": "x"}) == 400
    for more in ("&Action=ListUsers", "&RoleArn=x", "&Action=AssumeRoleWithWebIdentity"):
        assert sent(urlencode(good) + more) == 400
    assert sent(good, path="/?Action=ListUsers") == sent(good, path="/users") == sent(good, method="PUT") == 403
    assert sent(good, **{"X-Amz-Target": "DynamoDB_20120810.ListTables"}) == 400
    assert sent(good, Host="evil.example") == 400
    assert sent(urlencode(good) + "&" + "a" * 70000) == 403
    rows = [call for call in federation.world.calls() if call["action"] == "AssumeRoleWithWebIdentity"]
    assert [row["status"] for row in rows if not row["user"]][:1] == [200]
    assert good["WebIdentityToken"] not in federation.world.calls_log.read_text()
