"""What params may say of the cluster in EKS beyond a word or a number: the shapes of those values."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from lib.params.model import Params

KEPT_GROUPS = ("system:", "eks:", "aws:", "amazon:", "iam:")  # EKS gives groups of these names to nobody

Principal = Annotated[str, Field(pattern=r"^arn:aws[-a-z]*:iam::\d{12}:(role|user)/.+$")]
Policy = Annotated[str, Field(pattern=r"^AmazonEKS\w+Policy$")]
Namespaces = Annotated[list[Annotated[str, Field(pattern=r"^[-a-z0-9*]{1,63}$")]], Field(min_length=1)]


class AccessEntry(BaseModel):
    """One IAM role or user that may use the cluster's API, and what it may do there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    principal_arn: Principal = Field(description="the role or user; a role's sessions have what the role has")
    policy: Policy | None = Field(default=None, description="an access policy of EKS, such as AmazonEKSViewPolicy")
    scope: Literal["cluster"] | Namespaces = Field(default="cluster", description="cluster, or a list of namespaces")
    groups: list[str] = Field(default=[], description="Kubernetes groups, for RBAC objects of your own")

    @model_validator(mode="after")
    def _rights(self) -> AccessEntry:
        if not self.policy and not self.groups:
            raise ValueError(f"{self.principal_arn} needs a policy or groups: an entry alone gives no rights; add one")
        if wrong := [group for group in self.groups if group.startswith(KEPT_GROUPS)]:
            raise ValueError(f"EKS gives nobody the group {wrong[0]}; take a policy, or a group of your own")
        return self


AddOnName = Literal["aws-ebs-csi-driver", "coredns", "eks-pod-identity-agent", "kube-proxy", "vpc-cni"]
Version = Annotated[str, Field(pattern=r"^(default|latest|v\d[-\w.]*)$")]


class AddOn(BaseModel):
    """One of EKS's add-ons: its version and its configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Version = Field("default", description="default, latest, or one that EKS offers, as v1.20.1-eksbuild.1")
    configuration: dict = Field({}, description="the add-on's own settings: aws eks describe-addon-configuration")

    @model_validator(mode="before")
    @classmethod
    def _version_alone(cls, given: Any) -> Any:
        return {"version": given} if isinstance(given, str) else given


Log = Literal["api", "audit", "authenticator", "controllerManager", "scheduler"]
KeyArn = Annotated[str, Field(pattern=r"^arn:aws[-a-z]*:kms:[-a-z0-9]+:\d{12}:key/.+$")]
Ami = Literal["AL2023_x86_64_STANDARD", "AL2023_ARM_64_STANDARD", "BOTTLEROCKET_x86_64", "BOTTLEROCKET_ARM_64"]


class Taint(BaseModel):
    """One taint of the nodes: pods that do not tolerate it stay away."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Annotated[str, Field(min_length=1)]
    value: str = ""
    effect: Literal["NO_SCHEDULE", "NO_EXECUTE", "PREFER_NO_SCHEDULE"] = "NO_SCHEDULE"


def problems(params: Params) -> Iterator[str]:
    """Yield each reason why the params of the EKS cluster do not fit each other, without a full stop."""
    named = [entry.principal_arn for entry in params.access_entries]
    least, most = (params.node_count if one is None else one for one in (params.node_min, params.node_max))
    if twice := [arn for arn in named if named.count(arn) > 1]:
        yield f"access_entries names {twice[0]} twice; EKS has one entry for each; make them one"
    if "aws-ebs-csi-driver" in params.addons and "eks-pod-identity-agent" not in params.addons:
        yield "addons: aws-ebs-csi-driver gets its role by eks-pod-identity-agent; add that too"
    if not least <= params.node_count <= most:
        yield f"node_count {params.node_count} is not between node_min {least} and node_max {most}; change one"
    if "ARM" in params.node_ami_type and not _arm(params.node_instance_type):
        yield f"node_ami_type {params.node_ami_type} is for ARM, {params.node_instance_type} is not; change one"
    if "ARM" not in params.node_ami_type and _arm(params.node_instance_type):
        yield f"node_instance_type {params.node_instance_type} is ARM, {params.node_ami_type} is not; change one"
    yield from _reach(params)


def _reach(params: Params) -> Iterator[str]:
    cidrs = params.public_access_cidrs
    if wrong := [one for one in cidrs or () if not _network(one)]:
        yield f"public_access_cidrs: {wrong[0]} is no network as 203.0.113.7/32; change it"
    if not params.endpoint_public_access and not params.endpoint_private_access:
        yield "endpoint_public_access and endpoint_private_access are both false: nobody would reach the cluster's API"
    if not params.endpoint_public_access and cidrs:
        yield "public_access_cidrs are of the public endpoint, and endpoint_public_access is false; change one"
    if cidrs and "0.0.0.0/0" not in cidrs and not params.endpoint_private_access:
        yield "public_access_cidrs would shut the nodes out of the API; set endpoint_private_access to true"


def _network(text: str) -> bool:
    try:
        return ipaddress.ip_network(text).version == 4 and "/" in text
    except ValueError:
        return False


def _arm(instance_type: str) -> bool:
    """Graviton's types have a g after the generation, as m7g, t4g or c6gn; a1 is one too."""
    return bool(re.match(r"^(a1|[a-z]+\d+g[a-z]*)\.", instance_type))
