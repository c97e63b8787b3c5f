"""A cluster that cannot create volumes is an error before a pod waits for one."""

import pytest

from lib.errors import ClusterError
from lib.kubernetes import storage_class

EBS = "ebs.csi.aws.com"


class Cluster:
    """A cluster with StorageClasses by name and provisioner, and CSI drivers."""

    def __init__(self, classes, default="", drivers=()):
        self.classes, self.default, self.drivers = classes, default, drivers

    def items(self, *_):
        notes = lambda name: {storage_class.DEFAULT: "true"} if name == self.default else {}  # noqa: E731
        return [
            {"metadata": {"name": name, "annotations": notes(name)}, "provisioner": who}
            for name, who in self.classes.items()
        ]

    def find(self, api_version, kind, name):
        return {"metadata": {"name": name}} if name in self.drivers else None


def test_the_default_or_the_one_that_is_wanted():
    cluster = Cluster({"a": "x", "gp3": EBS}, "a", [EBS])
    assert storage_class.require(cluster, None) == "a" and storage_class.require(cluster, "gp3") == "gp3"


@pytest.mark.parametrize(
    ("cluster", "wanted", "words"),
    [
        (Cluster({}), None, "No default StorageClass .*: none\\. On EKS install the add-on aws-ebs-csi-driver"),
        (
            Cluster({"gp2": storage_class.EBS[1]}),
            None,
            "the cluster has: gp2\\. .*then set storage_class: gp2 in the params",
        ),
        (Cluster({"a": "x"}, "a"), "b", "No StorageClass b for"),
        (
            Cluster({"gp2": storage_class.EBS[1]}),
            "gp2",
            "No CSI driver .*StorageClass gp2\\. Install",
        ),
        (Cluster({"gp3": EBS}, "gp3"), None, "Install the EKS add-on aws-ebs-csi-driver with its role"),
    ],
)
def test_nobody_who_makes_it(cluster, wanted, words):
    with pytest.raises(ClusterError, match=words):
        storage_class.require(cluster, wanted)


def test_the_claim_names_the_class_that_is_wanted():
    things = [{"kind": "PersistentVolumeClaim", "spec": {}}, {"kind": "Service", "spec": {}}]
    assert storage_class.with_class(things, None) == things
    assert [one["spec"] for one in storage_class.with_class(things, "gp3")] == [{"storageClassName": "gp3"}, {}]
