"""Keeps what moto computes again at each call, session or partition of IAM.

AWS's own policies are 5 MB of JSON. The methods of a service and the folders of moto never change. For each role of a
request to EKS, moto makes a boto3 session, which reads all of AWS's endpoints again.
"""

from __future__ import annotations

import json
from copy import copy
from functools import cache

from botocore import session
from moto import backends
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core import responses
from moto.iam.aws_managed_policies import aws_managed_policies_data
from moto.iam.models import AWSManagedPolicy, IAMBackend, ManagedPolicy
from moto.settings import load_iam_aws_managed_policies

PARTITION = "aws"


@cache
def keep() -> None:
    """Make moto and botocore keep their policies, methods, folders and endpoints, in this process."""
    folders = frozenset(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: folders
    responses.method_names_from_class = cache(responses.method_names_from_class)
    session.create_loader = cache(session.create_loader)  # of AWS's models and endpoints, one for all sessions
    IAMBackend._init_aws_policies = _policies  # type: ignore[assignment, method-assign]


def _policies(backend: IAMBackend) -> list[ManagedPolicy]:
    """Return a backend's copies of AWS's own policies, because it counts who has each of them."""
    if backend.region_name != PARTITION or not load_iam_aws_managed_policies():
        return []
    return [copy(policy) for policy in _read()]


@cache
def _read() -> list[AWSManagedPolicy]:
    stated = json.loads(aws_managed_policies_data)
    return [AWSManagedPolicy.from_data(name, ACCOUNT, PARTITION, about) for name, about in stated.items()]
