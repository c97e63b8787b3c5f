"""AWS as the runbook needs it: a session, who it is, IAM roles; boto3's errors as sentences."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lib.errors import AwsError

PROJECT = "istio-keycloak-runbook"
PODS = "pods.eks.amazonaws.com"  # who assumes a role for pods: EKS Pod Identity
RETRIES = {"mode": "standard", "max_attempts": 6}  # throttled calls are repeated for some 20 seconds, then told

# "… is not authorized to perform: ec2:CreateVpc on resource: arn:… because …" is how AWS says that a right is missing
LACKED = re.compile(r"perform: (?P<action>[\w-]+:\w+)(?: on (?:the )?resource:? (?P<resource>[^\s.,]+))?")

HINTS = (  # (part of the error's code, what to do); the first that fits is told
    ("NoSuchBucket", "make the bucket, or name one that is there"),
    ("AccessDenied", "give the caller the permission of docs/eks.md that it lacks"),
    ("UnauthorizedOperation", "give the caller the permission of docs/eks.md that it lacks"),
    ("Throttling", "AWS wants fewer calls: wait a minute, and run it again"),
    ("TooManyRequests", "AWS wants fewer calls: wait a minute, and run it again"),
    ("RequestLimitExceeded", "AWS wants fewer calls: wait a minute, and run it again"),
    ("RequestExpired", "set this machine's clock: it is more than minutes off"),
    ("TooSkewed", "set this machine's clock: it is more than minutes off"),
    ("Expired", "log in again, and run it again: what is there is kept"),
    ("SSO", "log in again: aws sso login"),
    ("InvalidClientTokenId", "check the profile's access key"),
    ("UnrecognizedClient", "check the profile's access key"),
    ("AuthFailure", "check the profile's access key"),
    ("SignatureDoesNotMatch", "check the profile's secret key, and this machine's clock"),
    ("NoCredentials", "name aws_profile or aws_credentials_file in the params, or log in"),
    ("PartialCredentials", "complete the profile's access key and secret key"),
    ("ProfileNotFound", "name a profile that the credentials file has"),
    ("InsufficientInstanceCapacity", "take another node_instance_type or region, or wait: AWS has none of these left"),
    ("UnsupportedAvailabilityZone", "take another region: EKS has no capacity in one of these zones"),
    ("OptInRequired", "enable the region, or the service, for this account"),
    ("TooManyLoadBalancers", "delete what is not needed, or ask AWS for a higher quota"),
    ("LimitExceeded", "delete what is not needed, or ask AWS for a higher quota"),
    ("DependencyViolation", "delete first what Kubernetes made there: Services of type LoadBalancer, security groups"),
    ("DeleteConflict", "detach what still uses it first"),
    ("ResourceInUse", "wait until what uses it is gone, then do it again"),
)


def session(region: str, profile: str | None = None, credentials_file: str | None = None) -> boto3.Session:
    """Return a session. With a credentials file its profile counts (else `default`), whatever AWS_ variables say."""
    core = botocore.session.Session()
    if credentials_file:
        path = Path(credentials_file).expanduser()
        if not path.is_file():
            raise AwsError(f"expected credentials in {credentials_file}, got no file; make up starts the sandbox's.")
        core.set_config_variable("credentials_file", str(path))
        profile = profile or "default"
    with spoken():
        return boto3.Session(botocore_session=core, region_name=region, profile_name=profile)


def client(session: boto3.Session, service: str, endpoint_url: str | None = None):
    """Return boto3's client of the service; `endpoint_url` is for an AWS endpoint other than Amazon's own."""
    with spoken():
        return session.client(service, endpoint_url=endpoint_url, config=Config(retries=RETRIES))


def tags(cluster: str) -> dict[str, str]:
    """Return the tags by which all that belongs to the runbook's cluster is known, found again and deleted."""
    return {"Project": PROJECT, "Cluster": cluster}


@contextmanager
def spoken():
    """Turn boto3's errors into AwsErrors; also a decorator."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise AwsError(_sentence(error)) from None


@spoken()
def whoami(sts) -> dict[str, str]:
    """Return the caller's account, arn and user_id."""
    said = sts.get_caller_identity()
    return {"account": said["Account"], "arn": said["Arn"], "user_id": said["UserId"]}


@spoken()
def ensure_role(iam, name: str, service: str, policies: list[str], tags: dict[str, str]) -> tuple[dict, str]:
    """Create or update the role that `service` (e.g. eks.amazonaws.com) assumes; return (role, action).

    `policies` are ARNs of managed policies; more that are attached stay. A role without our tags is refused.
    """
    trust = _trust(service)
    role = _role(iam, name)
    if role is None:
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust), Tags=tag_list(tags))
        changes = ["created"]
    else:
        check_ours(f"role {name}", tag_dict(role.get("Tags", [])), tags)
        changes = [] if role["AssumeRolePolicyDocument"] == trust else ["trust"]
        if changes:
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
    for policy in sorted(set(policies) - set(attached(iam, name))):
        iam.attach_role_policy(RoleName=name, PolicyArn=policy)
        changes.append(policy)
    return _role(iam, name), "created" if "created" in changes else "changed" if changes else "unchanged"


@spoken()
def delete_role(iam, name: str, tags: dict[str, str]) -> str:
    """Detach the role's policies and delete it; return "deleted" or "absent". A role without our tags is refused."""
    role = _role(iam, name)
    if role is None:
        return "absent"
    check_ours(f"role {name}", tag_dict(role.get("Tags", [])), tags)
    for policy in attached(iam, name):
        iam.detach_role_policy(RoleName=name, PolicyArn=policy)
    iam.delete_role(RoleName=name)
    return "deleted"


@spoken()
def find_role(iam, name: str) -> dict | None:
    """Return a role, or None."""
    return _role(iam, name)


@spoken()
def attached(iam, name: str) -> list[str]:
    """Return the ARNs of a role's managed policies."""
    found = listed(iam, "list_attached_role_policies", "AttachedPolicies", RoleName=name)
    return [policy["PolicyArn"] for policy in found]


def listed(client, call: str, key: str, **asked) -> list:
    """Return all that a call lists under `key`, on whatever page it is."""
    if not client.can_paginate(call):
        return getattr(client, call)(**asked)[key]
    return [one for page in client.get_paginator(call).paginate(**asked) for one in page[key]]


def lacks(error: ClientError) -> bool:
    """Say whether the endpoint does not know the operation at all: one that stands for AWS may have less of it."""
    return error.response["Error"]["Code"] in ("404", "501", "NotImplemented", "UnknownOperationException")


def unseen(error: ClientError) -> bool:
    """Say whether it cannot be looked at: the endpoint lacks the operation, or the caller may not ask."""
    return lacks(error) or "AccessDenied" in error.response["Error"]["Code"]


def check_ours(what: str, found: dict[str, str], tags: dict[str, str]) -> None:
    """Raise AwsError unless `found` has all of `tags`: what somebody else made is neither changed nor deleted."""
    if not tags.items() <= found.items():
        raise AwsError(f"{what}: expected the tags {tags}, got {found}: not this runbook's; take another cluster_name.")


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Return tags as IAM and EC2 want them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tag_dict(tags: list[dict[str, str]]) -> dict[str, str]:
    """Return the tags that IAM and EC2 give as a dict."""
    return {tag["Key"]: tag["Value"] for tag in tags}


def _trust(service: str) -> dict:
    action = ["sts:AssumeRole", "sts:TagSession"] if service == PODS else "sts:AssumeRole"
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": action}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _role(iam, name: str) -> dict | None:
    try:
        return iam.get_role(RoleName=name)["Role"]
    except iam.exceptions.NoSuchEntityException:
        return None


def _sentence(error: BotoCoreError | ClientError) -> str:
    url = getattr(error, "kwargs", {}).get("endpoint_url")
    if url:
        own = (urlsplit(url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
        fix = "check the network and the region" if own else "start the sandbox: make up"
        return f"expected an AWS endpoint at {url}, got no answer ({type(error).__name__}); {fix}."
    if isinstance(error, ClientError):
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        expected = f"AWS to accept {error.operation_name}"
    else:
        code, message, expected = type(error).__name__.removesuffix("Error"), str(error), "AWS to be usable"
    hint = next((do for part, do in HINTS if part in code), "see AWS's documentation of this error")
    if lacked := LACKED.search(message):
        hint = f"give the caller {lacked['action']}" + (f" on {lacked['resource']}" if lacked["resource"] else "")
    plain, _, encoded = " ".join(message.split()).partition("Encoded authorization failure message:")
    if encoded:
        hint += "; which rule refuses tells aws sts decode-authorization-message, if you may call it"
    return f"expected {expected}, got {code}: {plain[:200].rstrip('. ')}; {hint}."
