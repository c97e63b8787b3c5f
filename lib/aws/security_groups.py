"""Security groups: which ports a cluster's own group closes.

EC2 API Reference: DescribeSecurityGroups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lib.aws.session import aws_errors

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


@aws_errors()
def closed_ports(ec2: EC2Client, group_id: str, ports: tuple[int, ...]) -> list[int]:
    """Return the TCP ports that a security group closes to its own members; EKS's own group opens all."""
    (group,) = ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    rules = [
        rule
        for rule in group["IpPermissions"]
        if rule["IpProtocol"] in ("-1", "tcp")
        and (
            any(pair["GroupId"] == group_id for pair in rule.get("UserIdGroupPairs", []))
            or any(source["CidrIp"] == "0.0.0.0/0" for source in rule.get("IpRanges", []))
        )
    ]

    def is_open(port: int) -> bool:
        return any(rule["IpProtocol"] == "-1" or rule["FromPort"] <= port <= rule["ToPort"] for rule in rules)

    return [port for port in ports if not is_open(port)]
