"""The nodes' EC2 launch template: IMDSv2 only, and an encrypted gp3 disk.

EKS user guide: "Customize managed nodes with launch templates"; EC2 API Reference: CreateLaunchTemplate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lib.aws.session import aws_errors
from lib.aws.tags import check_owned, tag_dict, tag_list, tag_specification
from lib.ensured import Ensured

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# A pod outside the host's network is one hop further from the metadata service than its node. So one hop keeps the
# node's role from pods. EC2 user guide: "Configure the Instance Metadata Service options".
HOPS = 1
DATA_DEVICES = {"BOTTLEROCKET": "/dev/xvdb"}  # by AMI family: the disk with pods and images, if it is not the root disk
ROOT_DEVICE = "/dev/xvda"


def template_data(disk_gib: int, ami_type: str, name: str, tags: dict[str, str]) -> dict[str, Any]:
    """Return the LaunchTemplateData: metadata service, disk, tags of instances and volumes. EKS adds the AMI."""
    device = DATA_DEVICES.get(ami_type.partition("_")[0], ROOT_DEVICE)
    disk = {"VolumeType": "gp3", "VolumeSize": disk_gib, "Encrypted": True, "DeleteOnTermination": True}
    named = tag_list({**tags, "Name": name})
    return {
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": HOPS, "HttpEndpoint": "enabled"},
        "BlockDeviceMappings": [{"DeviceName": device, "Ebs": disk}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": named} for kind in ("instance", "volume")],
    }


def create_request(name: str, data: dict[str, Any], tags: dict[str, str]) -> dict[str, Any]:
    """Return what CreateLaunchTemplate gets."""
    specification = tag_specification("launch-template", {**tags, "Name": name})
    return {"LaunchTemplateName": name, "LaunchTemplateData": data, **specification}


@aws_errors()
def ensure_template(ec2: EC2Client, name: str, data: dict[str, Any], tags: dict[str, str]) -> Ensured:
    """Create the launch template, or a new version if the latest one differs.

    Returns:
        {"name", "version"}, and "created", "changed" or "unchanged".

    Raises:
        AwsError: a template of this name exists without these tags.
    """
    found = _template(ec2, name)
    if found is None:
        ec2.create_launch_template(**create_request(name, data, tags))
        return Ensured({"name": name, "version": "1"}, "created")
    check_owned(f"launch template {name}", tag_dict(found.get("Tags", [])), tags)
    versions = ec2.describe_launch_template_versions(LaunchTemplateName=name, Versions=["$Latest"])
    (latest,) = versions["LaunchTemplateVersions"]
    if _contains(latest["LaunchTemplateData"], data):  # EC2 adds fields
        return Ensured({"name": name, "version": str(latest["VersionNumber"])}, "unchanged")
    request: Any = data
    version = ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData=request)
    return Ensured({"name": name, "version": str(version["LaunchTemplateVersion"]["VersionNumber"])}, "changed")


@aws_errors()
def find_template(ec2: EC2Client, name: str) -> dict[str, Any] | None:
    """Return a launch template as DescribeLaunchTemplates describes it, or None."""
    return _template(ec2, name)


@aws_errors()
def delete_template(ec2: EC2Client, name: str, tags: dict[str, str]) -> str:
    """Delete the launch template with all its versions; return "deleted" or "absent". Its node group must be gone."""
    found = _template(ec2, name)
    if found is None:
        return "absent"
    check_owned(f"launch template {name}", tag_dict(found.get("Tags", [])), tags)
    ec2.delete_launch_template(LaunchTemplateId=found["LaunchTemplateId"])
    return "deleted"


def _template(ec2: EC2Client, name: str) -> dict[str, Any] | None:
    filters: Any = [{"Name": "launch-template-name", "Values": [name]}]
    found = ec2.describe_launch_templates(Filters=filters)["LaunchTemplates"]
    return dict(found[0]) if found else None


def _contains(found: Any, wanted: Any) -> bool:
    """Whether `found` has all that is in `wanted`; the order of lists does not count."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_contains(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return all(any(_contains(item, each) for item in found or []) for each in wanted)
    return found == wanted
