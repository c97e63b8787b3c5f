"""PostgreSQL's volume: whether the cluster has somebody who makes it, before a pod waits for it for ever."""

from __future__ import annotations

import copy

from lib.errors import ClusterError
from lib.kubernetes.cluster import Cluster

DEFAULT = "storageclass.kubernetes.io/is-default-class"
EBS = ("ebs.csi.aws.com", "kubernetes.io/aws-ebs")  # both are the driver's work since Kubernetes 1.23
ADD_ON = "aws-ebs-csi-driver"


def require(cluster: Cluster, wanted: str | None) -> str:
    """Return the StorageClass that a volume gets, `wanted` or the default; raise ClusterError where it gets none."""
    classes = {one["metadata"]["name"]: one for one in cluster.items("storage.k8s.io/v1", "StorageClass")}
    names = ", ".join(sorted(classes)) or "none"
    marked = [
        name for name, one in classes.items() if (one["metadata"].get("annotations") or {}).get(DEFAULT) == "true"
    ]
    chosen = wanted or (marked or [""])[0]
    if chosen not in classes:
        what = f"the StorageClass {wanted}" if wanted else "a default StorageClass"
        fix = f"on EKS the add-on {ADD_ON}, and then storage_class: {names if classes else 'gp2'} in the params"
        raise ClusterError(f"expected {what} for PostgreSQL's volume, got of all classes: {names}; {fix}.")
    if classes[chosen]["provisioner"] in EBS and not cluster.find("storage.k8s.io/v1", "CSIDriver", EBS[0]):
        raise ClusterError(
            f"expected the CSI driver {EBS[0]}, which makes the volumes of StorageClass {chosen}, found none; "
            f"add the EKS add-on {ADD_ON} with its role."
        )
    return chosen


def placed(things: list[dict], wanted: str | None) -> list[dict]:
    """Return objects with their claims for a volume of StorageClass `wanted`; as they are where none is wanted."""
    made = copy.deepcopy(things)
    for one in made if wanted else []:
        if one["kind"] == "PersistentVolumeClaim":
            one["spec"]["storageClassName"] = wanted
    return made
