"""boto3 sessions and clients, the caller's identity, paging, and AWS errors as AwsError."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader, create_loader

from lib.errors import AwsError

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient

RETRIES: Any = {"mode": "standard", "max_attempts": 6}  # botocore repeats throttled calls for about 20 seconds
MESSAGE = 200  # characters of AWS's own message that an error quotes

# A missing right: "… is not authorized to perform: ec2:CreateVpc on resource: arn:… because …"
MISSING_RIGHT = re.compile(r"perform: (?P<action>[\w-]+:\w+)(?: on (?:the )?resource:? (?P<resource>[^\s.,]+))?")

HINTS = (  # (part of the error's code, what to do); the first match counts
    ("NoSuchBucket", "create the bucket, or name an existing one"),
    ("AccessDenied", "give the caller the permission of docs/eks.md that it lacks"),
    ("UnauthorizedOperation", "give the caller the permission of docs/eks.md that it lacks"),
    ("Throttling", "AWS limits the rate of calls: wait a minute, and run it again"),
    ("TooManyRequests", "AWS limits the rate of calls: wait a minute, and run it again"),
    ("RequestLimitExceeded", "AWS limits the rate of calls: wait a minute, and run it again"),
    ("RequestExpired", "set this machine's clock: it is off by minutes"),
    ("TooSkewed", "set this machine's clock: it is off by minutes"),
    ("Expired", "log in again, and run it again: existing objects are kept"),
    ("SSO", "log in again: aws sso login"),
    ("InvalidClientTokenId", "check the profile's access key"),
    ("UnrecognizedClient", "check the profile's access key"),
    ("AuthFailure", "check the profile's access key"),
    ("InvalidAccessKeyId", "check the profile's access key"),
    ("SignatureDoesNotMatch", "check the profile's secret key, and this machine's clock"),
    ("InvalidSignature", "check the profile's secret key, and this machine's clock"),
    ("NoCredentials", "name aws_profile or aws_credentials_file in the params, or log in"),
    ("PartialCredentials", "complete the profile's access key and secret key"),
    ("ProfileNotFound", "name a profile that the credentials file contains"),
    ("InsufficientInstanceCapacity", "choose another node_instance_type or region, or wait: AWS has none of these now"),
    ("UnsupportedAvailabilityZone", "choose another region: EKS has no capacity in one of these zones"),
    ("OptInRequired", "enable the region, or the service, for this account"),
    ("TooManyLoadBalancers", "delete unused ones, or ask AWS for a higher quota"),
    ("StorageFull", "make room in the bucket's store"),
    ("QuotaExceeded", "make room in the bucket, or raise its quota"),
    ("SlowDown", "S3 limits the rate of calls: wait a minute, and run it again"),
    ("LimitExceeded", "delete unused ones, or ask AWS for a higher quota"),
    ("DependencyViolation", "delete first what Kubernetes created: Services of type LoadBalancer, security groups"),
    ("DeleteConflict", "detach its users first"),
    ("ResourceInUse", "wait until its users are gone, then run it again"),
)


def session(region: str, profile: str | None = None, credentials_file: str | None = None) -> boto3.Session:
    """Return a session.

    With a credentials file its profile counts (by default `default`), and AWS_ environment variables do not.

    Raises:
        AwsError: the credentials file or the profile does not exist.
    """
    core = botocore.session.Session()
    if credentials_file:
        path = Path(credentials_file).expanduser()
        if not path.is_file():
            raise AwsError(f"No credentials file at {credentials_file}. If it is the sandbox's, start it: make up.")
        core.set_config_variable("credentials_file", str(path))
        profile = profile or "default"
    with aws_errors():
        made = boto3.Session(botocore_session=core, region_name=region, profile_name=profile)
        core.register_component("data_loader", descriptions(core.get_config_variable("data_path")))
    return made


@cache
def descriptions(folders: str | None) -> Loader:
    """Return the reader of AWS's descriptions of its services, which all sessions share: EC2's take 0.2 s to read.

    `folders` are botocore's `data_path`: further folders of descriptions, by default none.
    """
    return create_loader(folders)


def client(session: boto3.Session, service: Any, endpoint_url: str | None = None, **config: Any) -> Any:
    """Return boto3's client of a service; `endpoint_url` replaces Amazon's own endpoint.

    `config` are further values of botocore's Config, such as `read_timeout` in seconds.
    """
    with aws_errors():
        return session.client(service, endpoint_url=endpoint_url, config=Config(**{"retries": RETRIES, **config}))


@contextmanager
def aws_errors() -> Iterator[None]:
    """Turn botocore's errors into AwsErrors; as a context or a decorator."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise _aws_error(error) from None


@aws_errors()
def whoami(sts: STSClient) -> dict[str, str]:
    """Return the caller's account, arn and user_id. STS API Reference: GetCallerIdentity."""
    identity = sts.get_caller_identity()
    return {"account": identity["Account"], "arn": identity["Arn"], "user_id": identity["UserId"]}


def paginate(client: Any, call: str, key: str, **request: Any) -> list[Any]:
    """Return all items that a call lists under `key`, from all pages.

    Args:
        client: a boto3 client.
        call: its method's name, e.g. "list_clusters".
        key: the key of the list in each page.
        **request: the call's own arguments.
    """
    if not client.can_paginate(call):
        return getattr(client, call)(**request)[key]
    return [item for page in client.get_paginator(call).paginate(**request) for item in page[key]]


def error_code(error: ClientError) -> str:
    """Return AWS's code of an error, e.g. "AccessDeniedException"."""
    return error.response["Error"]["Code"]


def is_unsupported(error: ClientError) -> bool:
    """Whether the endpoint does not implement the operation: an emulated AWS may lack some."""
    return error_code(error) in ("404", "501", "NotImplemented", "UnknownOperationException")


def is_unreadable(error: ClientError) -> bool:
    """Whether the answer cannot be had: the endpoint lacks the operation, or the caller lacks the permission."""
    return is_unsupported(error) or "AccessDenied" in error_code(error)


def _aws_error(error: BotoCoreError | ClientError) -> AwsError:
    url = getattr(error, "kwargs", {}).get("endpoint_url")
    if url:
        is_amazon = (urlsplit(url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
        fix = "check the network and the region" if is_amazon else "start the sandbox: make up"
        return AwsError(f"expected an AWS endpoint at {url}, got no answer ({type(error).__name__}); {fix}.")
    if isinstance(error, ClientError):
        code, message, operation = error_code(error), error.response["Error"]["Message"], error.operation_name
        expected = f"AWS to accept {operation}"
    else:
        code, message, operation = type(error).__name__.removesuffix("Error"), str(error), ""
        expected = "AWS to be usable"
    hint, lacking = (
        next((advice for part, advice in HINTS if part in code), "see AWS's documentation of this error"),
        "",
    )
    if missing := MISSING_RIGHT.search(message):
        lacking = missing["action"]
        hint = f"give the caller {missing['action']}" + (f" on {missing['resource']}" if missing["resource"] else "")
    plain, _, encoded = " ".join(message.split()).partition("Encoded authorization failure message:")
    if encoded:
        hint += "; to see which rule refuses, call aws sts decode-authorization-message"
    text = f"expected {expected}, got {code}: {plain[:MESSAGE].rstrip('. ')}; {hint}."
    return AwsError(text, code=code, operation=operation, missing=lacking)
