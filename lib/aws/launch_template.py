"""What nodes start from: an EC2 launch template with IMDSv2 alone, and an encrypted gp3 disk.

EKS user guide: "Customize managed nodes with launch templates"; EC2 API Reference: CreateLaunchTemplate.
"""

from __future__ import annotations

from lib.aws.session import aws_errors
from lib.aws.tags import check_owned, tag_dict, tag_list, tag_specification

# Pods that are not on the host's network are a hop further than the node: with one hop they do not get its role.
HOPS = 1
DATA = {"BOTTLEROCKET": "/dev/xvdb"}  # the disk that pods and images are on, by the AMI's kind; else the only one
ROOT = "/dev/xvda"


def template_data(disk_gib: int, ami_type: str, name: str, tags: dict[str, str]) -> dict:
    """Return the launch template's data: metadata service, disk, tags of instances and volumes; no AMI, EKS has it."""
    device = DATA.get(ami_type.partition("_")[0], ROOT)
    disk = {"VolumeType": "gp3", "VolumeSize": disk_gib, "Encrypted": True, "DeleteOnTermination": True}
    named = tag_list({**tags, "Name": name})
    return {
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": HOPS, "HttpEndpoint": "enabled"},
        "BlockDeviceMappings": [{"DeviceName": device, "Ebs": disk}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": named} for kind in ("instance", "volume")],
    }


@aws_errors()
def ensure_template(ec2, name: str, data: dict, tags: dict[str, str]) -> tuple[dict[str, str], str]:
    """Create the launch template, or a new version of it; return ({"name", "version"}, action).

    A template without our tags is refused: AwsError.
    """
    found = _template(ec2, name)
    if found is None:
        about = tag_specification("launch-template", {**tags, "Name": name})
        ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data, **about)
        return {"name": name, "version": "1"}, "created"
    check_owned(f"launch template {name}", tag_dict(found.get("Tags", [])), tags)
    (latest,) = ec2.describe_launch_template_versions(LaunchTemplateName=name, Versions=["$Latest"])[
        "LaunchTemplateVersions"
    ]
    if _has(latest["LaunchTemplateData"], data):
        return {"name": name, "version": str(latest["VersionNumber"])}, "unchanged"
    made = ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData=data)
    return {"name": name, "version": str(made["LaunchTemplateVersion"]["VersionNumber"])}, "changed"


@aws_errors()
def find_template(ec2, name: str) -> dict | None:
    """Return a launch template, or None."""
    return _template(ec2, name)


@aws_errors()
def delete_template(ec2, name: str, tags: dict[str, str]) -> str:
    """Delete the launch template with all its versions; return "deleted" or "absent". Its node group must be gone."""
    found = _template(ec2, name)
    if found is None:
        return "absent"
    check_owned(f"launch template {name}", tag_dict(found.get("Tags", [])), tags)
    ec2.delete_launch_template(LaunchTemplateId=found["LaunchTemplateId"])
    return "deleted"


def _template(ec2, name: str) -> dict | None:
    asked = [{"Name": "launch-template-name", "Values": [name]}]
    found = ec2.describe_launch_templates(Filters=asked)["LaunchTemplates"]
    return found[0] if found else None


def _has(found, wanted) -> bool:
    """Whether all that is wanted is there, in whatever order: EC2 adds fields of its own."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_has(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return all(any(_has(one, each) for one in found or []) for each in wanted)
    return found == wanted
