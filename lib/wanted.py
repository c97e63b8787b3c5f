"""What params may say of the cluster in EKS beyond a word or a number: the shapes of those values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

KEPT_GROUPS = ("system:", "eks:", "aws:", "amazon:", "iam:")  # EKS gives groups of these names to nobody

Principal = Annotated[str, Field(pattern=r"^arn:aws[-a-z]*:iam::\d{12}:(role|user)/.+$")]
Policy = Annotated[str, Field(pattern=r"^AmazonEKS\w+Policy$")]
Namespaces = Annotated[list[Annotated[str, Field(pattern=r"^[-a-z0-9*]{1,63}$")]], Field(min_length=1)]


class AccessEntry(BaseModel):
    """One IAM role or user that may use the cluster's API, and what it may do there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    principal_arn: Principal = Field(description="the role or user; a role's sessions have what the role has")
    policy: Policy | None = Field(None, description="an access policy of EKS, such as AmazonEKSViewPolicy")
    scope: Literal["cluster"] | Namespaces = Field("cluster", description="cluster, or a list of namespaces")
    groups: list[str] = Field([], description="Kubernetes groups, for RBAC objects of your own")

    @model_validator(mode="after")
    def _rights(self):
        if not self.policy and not self.groups:
            raise ValueError(f"{self.principal_arn} needs a policy or groups: an entry alone gives no rights; add one")
        if wrong := [group for group in self.groups if group.startswith(KEPT_GROUPS)]:
            raise ValueError(f"EKS gives nobody the group {wrong[0]}; take a policy, or a group of your own")
        return self


AddOnName = Literal["aws-ebs-csi-driver", "coredns", "eks-pod-identity-agent", "kube-proxy", "vpc-cni"]
Version = Annotated[str, Field(pattern=r"^(default|latest|v\d[-\w.]*)$")]


class AddOn(BaseModel):
    """One of EKS's add-ons: its version, and what it is configured with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Version = Field("default", description="default, latest, or one that EKS offers, as v1.20.1-eksbuild.1")
    configuration: dict = Field({}, description="the add-on's own settings: aws eks describe-addon-configuration")

    @model_validator(mode="before")
    @classmethod
    def _version_alone(cls, given):
        return {"version": given} if isinstance(given, str) else given
