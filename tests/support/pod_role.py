"""A role of the sandbox's account for the pods of one service account, and what EKS adds to such a pod."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from lib.kubernetes import manifests
from lib.run import Run
from sandbox.host.veth import Link
from sandbox.paths import AWS_PORT

AUDIENCE = "sts.amazonaws.com"
PLACE = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
ENDPOINT = f"https://{Link(0).host}:{AWS_PORT}"  # of the sandbox's AWS, for its pods


@contextmanager
def pod_role(run: Run, name: str, subject: str, *allowed: dict) -> Iterator[str]:
    """Make a role that a service account's pods may assume, with these rights; yield its ARN, and delete it."""
    iam = run.aws("iam")
    issuer = run.aws("eks").describe_cluster(name=run.params.cluster_name)["cluster"]["identity"]["oidc"]["issuer"]
    provider = iam.create_open_id_connect_provider(Url=issuer, ClientIDList=[AUDIENCE])["OpenIDConnectProviderArn"]
    place = provider.partition("/")[2]
    token = {f"{place}:sub": f"system:serviceaccount:{subject}", f"{place}:aud": AUDIENCE}
    action = {"Action": "sts:AssumeRoleWithWebIdentity", "Condition": {"StringEquals": token}}
    trust = policy({"Principal": {"Federated": provider}, **action})
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=policy(*allowed))
    try:
        yield role
    finally:
        iam.delete_role_policy(RoleName=name, PolicyName=name)
        iam.delete_role(RoleName=name)
        iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=provider)


def policy(*statements: dict) -> str:
    allowed = [{"Effect": "Allow", **one} for one in statements]
    return json.dumps({"Version": "2012-10-17", "Statement": allowed})


def add_identity(pod: dict, role: str, region: str) -> None:
    """Give a pod the identity of its service account for a role, as EKS's webhook does by an annotation.

    Source: https://docs.aws.amazon.com/eks/latest/userguide/pod-configuration.html
    """
    (container,) = pod["containers"]
    token = {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": 86400, "path": "token"}}
    sources = [token, {"configMap": {"name": "kube-root-ca.crt"}}]  # the second: for the sandbox's endpoint
    pod["volumes"].append({"name": "aws", "projected": {"defaultMode": 0o440, "sources": sources}})
    container["volumeMounts"].append({"name": "aws", "mountPath": PLACE, "readOnly": True})
    for name, value in {
        "AWS_ROLE_ARN": role,
        "AWS_WEB_IDENTITY_TOKEN_FILE": f"{PLACE}/token",
        "AWS_REGION": region,
        "AWS_STS_REGIONAL_ENDPOINTS": "regional",
        "AWS_ENDPOINT_URL": ENDPOINT,
        "AWS_CA_BUNDLE": f"{PLACE}/ca.crt",
    }.items():
        manifests.set_variable(container, name, value=value)
