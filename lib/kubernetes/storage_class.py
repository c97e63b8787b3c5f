"""PostgreSQL's volume: which StorageClass makes it. Without one, the pod would wait for its volume for ever."""

from __future__ import annotations

import copy

from lib.errors import ClusterError
from lib.kubernetes.cluster import Cluster
from lib.kubernetes.rest import Object

DEFAULT = "storageclass.kubernetes.io/is-default-class"
EBS = ("ebs.csi.aws.com", "kubernetes.io/aws-ebs")  # the EBS CSI driver serves both since Kubernetes 1.23
ADD_ON = "aws-ebs-csi-driver"


def require(cluster: Cluster, wanted: str | None) -> str:
    """Return the StorageClass for a volume, `wanted` or the default; raise ClusterError if none can serve."""
    classes = {one["metadata"]["name"]: one for one in cluster.items("storage.k8s.io/v1", "StorageClass")}
    names = ", ".join(sorted(classes)) or "none"
    marked = [
        name for name, one in classes.items() if (one["metadata"].get("annotations") or {}).get(DEFAULT) == "true"
    ]
    chosen = wanted or (marked or [""])[0]
    if chosen not in classes:
        missing = f"No StorageClass {wanted}" if wanted else "No default StorageClass"
        raise ClusterError(
            f"{missing} for PostgreSQL's volume; the cluster has: {names}. On EKS install the add-on {ADD_ON}, "
            f"then set storage_class: {names if classes else 'gp2'} in the params."
        )
    if classes[chosen]["provisioner"] in EBS and not cluster.find("storage.k8s.io/v1", "CSIDriver", EBS[0]):
        raise ClusterError(
            f"No CSI driver {EBS[0]}, which makes the volumes of StorageClass {chosen}. "
            f"Install the EKS add-on {ADD_ON} with its role."
        )
    return chosen


def with_class(objects: list[Object], wanted: str | None) -> list[Object]:
    """Return the objects with StorageClass `wanted` in their volume claims; unchanged if `wanted` is None."""
    made = copy.deepcopy(objects)
    for obj in made if wanted else []:
        if obj["kind"] == "PersistentVolumeClaim":
            obj["spec"]["storageClassName"] = wanted
    return made
