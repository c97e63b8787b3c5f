"""What the sandbox enforces for each service: its operations, the names of their permissions, their resources.

docs/sandbox.md has this table. The gate refuses every other service, operation and parameter that is named here.
Source: Service Authorization Reference, "Actions, resources, and condition keys" of each service.
"""

from __future__ import annotations

from dataclasses import dataclass

# Operations of S3, and their permissions: "Required permissions for Amazon S3 API operations" of its user guide.
S3 = {name: name for name in (
    "AbortMultipartUpload", "CreateBucket", "DeleteBucket", "DeleteObject", "DeleteObjectTagging", "GetBucketLocation",
    "GetBucketTagging", "GetBucketVersioning", "GetObject", "GetObjectLegalHold", "GetObjectRetention",
    "GetObjectTagging", "PutBucketTagging", "PutBucketVersioning", "PutObject", "PutObjectLegalHold",
    "PutObjectRetention", "PutObjectTagging",
)}  # fmt: skip
S3 |= {
    "CompleteMultipartUpload": "PutObject", "CopyObject": "PutObject", "CreateMultipartUpload": "PutObject",
    "DeleteBucketTagging": "PutBucketTagging", "DeleteObjects": "DeleteObject",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "HeadBucket": "ListBucket", "HeadObject": "GetObject", "ListBuckets": "ListAllMyBuckets",
    "ListMultipartUploads": "ListBucketMultipartUploads", "ListObjectVersions": "ListBucketVersions",
    "ListObjects": "ListBucket", "ListObjectsV2": "ListBucket", "ListParts": "ListMultipartUploadParts",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock", "UploadPart": "PutObject", "UploadPartCopy": "PutObject",
}  # fmt: skip


@dataclass(frozen=True)
class Service:
    """A service.

    Args:
        model: its name in botocore.
        permissions: the permission of each operation; None if all operations are known, each by its own name.
        refused: operations and parameters that would change rights in a way that the sandbox does not enforce.
        resources: parameters that name the resource, and the ends of their ARNs; the first that a call has counts.
        says: the resources, in the words of docs/sandbox.md.
    """

    model: str
    permissions: dict[str, str] | None = None
    refused: tuple[str, ...] = ()
    resources: tuple[tuple[str, str], ...] = ()
    says: str = 'none: only Resource "*" allows, any Deny denies'


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


SERVICES = {  # by the prefix of its actions in policies, which is the service's name in signatures
    "dynamodb": Service(
        "dynamodb",
        _same("CreateTable", "DeleteItem", "DeleteTable", "DescribeTable", "GetItem", "ListTables", "PutItem"),
        ("ResourcePolicy",), (("TableName", "table/{TableName}"),), "tables",
    ),
    "ec2": Service("ec2"),
    "eks": Service(
        "eks", None, (),
        (("resourceArn", "{resourceArn}"), ("nodegroupName", "nodegroup/{cluster}/{nodegroupName}/*"),
         ("addonName", "addon/{cluster}/{addonName}/*"),
         ("associationId", "podidentityassociation/{cluster}/{associationId}"),
         ("principalArn", "access-entry/{cluster}/*"), ("cluster", "cluster/{cluster}")),
        "clusters, node groups, add-ons, access entries, pod identity associations",
    ),
    "elasticloadbalancing": Service("elbv2"),
    "iam": Service(
        "iam", None,
        ("PermissionsBoundary", "PermissionsBoundaryPolicyInputList", "PutRolePermissionsBoundary",
         "PutUserPermissionsBoundary", "DeleteRolePermissionsBoundary", "DeleteUserPermissionsBoundary",
         "SimulateCustomPolicy", "CallerArn", "ResourcePolicy", "ResourceOwner", "ResourceHandlingOption"),
        (("InstanceProfileName", "instance-profile/{InstanceProfileName}"), ("RoleName", "role/{RoleName}"),
         ("GroupName", "group/{GroupName}"), ("UserName", "user/{UserName}"), ("PolicyArn", "{PolicyArn}"),
         ("OpenIDConnectProviderArn", "{OpenIDConnectProviderArn}"), ("SAMLProviderArn", "{SAMLProviderArn}"),
         ("PolicySourceArn", "{PolicySourceArn}"), ("PolicyName", "policy/{PolicyName}")),
        "roles, users, groups, policies, instance profiles, identity providers",
    ),
    "kms": Service(
        "kms", _same("CreateKey", "DescribeKey", "ListKeys", "ScheduleKeyDeletion"), ("Policy",),
        (("KeyId", "{KeyId}"),), "keys by ARN",
    ),
    "logs": Service(
        "logs", None, ("PutResourcePolicy", "PutDestinationPolicy"),
        (("resourceArn", "{resourceArn}"), ("logGroupName", "log-group:{logGroupName}:*")),
        "log groups by name, with :* after it",
    ),
    "s3": Service("s3", S3, ("ACL", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWrite", "GrantWriteACP"),
                  (("Key", "{Bucket}/{Key}"), ("Bucket", "{Bucket}")), "buckets and objects, copies' sources too"),
    "servicequotas": Service("service-quotas"),
    "sts": Service("sts", _same("AssumeRole", "AssumeRoleWithWebIdentity", "GetCallerIdentity"),
                   ("ProviderId", "MinimumSessionTokenSize", "Tags", "TransitiveTagKeys", "SourceIdentity",
                    "ProvidedContexts", "SerialNumber", "TokenCode"),
                   (("RoleArn", "{RoleArn}"),), "roles, by their trust policies too"),
}  # fmt: skip
