"""The objects of the EKS API: moto's cluster and node group with the sandbox's fields, add-ons, associations, updates.

moto's serializer reads their attributes and writes addon_name as addonName; a field that EKS does not have stays out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from moto.core.utils import utcnow
from moto.eks.models import Cluster, Nodegroup

from sandbox.eks.access_entries import AccessEntries


class EksCluster(Cluster):
    """moto's Cluster with the fields that create_cluster sets. moto makes the object: this class only types it."""

    access: AccessEntries
    access_config: dict[str, Any]
    addons: dict[str, AddOn]
    associations: dict[str, Association]
    endpoint: Any  # None until the cluster is ACTIVE
    health: dict[str, Any]
    request: dict[str, Any]  # the body of the CreateCluster call
    updates: dict[str, Update]


class EksNodegroup(Nodegroup):
    """moto's Nodegroup with the fields that create_nodegroup sets. moto makes the object: this class only types it."""

    disk_size: Any  # GiB; None if the launch template sets the disk
    release_version: Any  # None: the sandbox has no AMI
    remote_access: Any
    request: dict[str, Any]  # the body of the CreateNodegroup call
    resources: dict[str, Any]


@dataclass
class AddOn:
    """An add-on of a cluster. Source: EKS API reference, API_Addon."""

    addon_name: str
    cluster_name: str
    addon_version: str
    addon_arn: str
    owner: str
    publisher: str
    tags: dict[str, str]
    configuration_values: str | None
    service_account_role_arn: str | None
    due: float  # when its creation ends, by the clock of Delays
    status: str = "CREATING"
    health: dict[str, Any] = field(default_factory=lambda: {"issues": []})
    pod_identity_associations: list[str] = field(default_factory=list)  # ARNs
    namespace_config: dict[str, str] = field(default_factory=lambda: {"namespace": "kube-system"})
    created_at: datetime = field(default_factory=utcnow)
    modified_at: datetime = field(default_factory=utcnow)


@dataclass
class Association:
    """A pod identity association. Source: EKS API reference, API_PodIdentityAssociation."""

    cluster_name: str
    namespace: str
    service_account: str
    role_arn: str
    association_id: str
    association_arn: str
    tags: dict[str, str]
    owner_arn: str | None  # the add-on that owns the association
    created_at: datetime = field(default_factory=utcnow)
    modified_at: datetime = field(default_factory=utcnow)


@dataclass
class Update:
    """An update of a cluster, node group or add-on. Source: EKS API reference, API_Update."""

    id: str
    type: str
    params: list[dict[str, str]]
    target: EksCluster | EksNodegroup | AddOn
    target_name: str  # of the node group or add-on; "" for the cluster
    apply: Callable[[], None]  # makes the change when the update succeeds
    due: float  # when it ends, by the clock of Delays
    status: str = "InProgress"
    errors: list[dict[str, Any]] = field(default_factory=list)
    created_at: datetime = field(default_factory=utcnow)
