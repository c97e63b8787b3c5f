"""A control plane's options by boto3: one kind of update in a call, and the refusals of EKS."""

import pytest

LOGS = {"clusterLogging": [{"types": ["api", "audit"], "enabled": True}]}


def test_endpoint_access_logs_and_encryption_are_updated(world, refusal):
    world.active()
    eks = world.client("eks")
    arn = world.client("kms").create_key()["KeyMetadata"]["Arn"]
    config = {"endpointPrivateAccess": True, "publicAccessCidrs": ["203.0.113.7/32"]}
    encryption = [{"resources": ["secrets"], "provider": {"keyArn": arn}}]
    updates = [
        eks.update_cluster_config(name="runbook", resourcesVpcConfig=config),
        eks.update_cluster_config(name="runbook", logging=LOGS),
        eks.associate_encryption_config(clusterName="runbook", encryptionConfig=encryption),
    ]
    kinds = ["EndpointAccessUpdate", "LoggingUpdate", "AssociateEncryptionConfig"]
    assert [(one["update"]["type"], one["update"]["status"]) for one in updates] == [
        (kind, "Successful") for kind in kinds
    ]
    found = eks.describe_cluster(name="runbook")["cluster"]
    assert found["status"] == "ACTIVE" and config.items() <= found["resourcesVpcConfig"].items()
    assert found["logging"]["clusterLogging"][0] == {"types": ["api", "audit"], "enabled": True}
    assert found["encryptionConfig"] == encryption
    again = {"clusterName": "runbook", "encryptionConfig": encryption}
    assert refusal(eks.associate_encryption_config, **again)[1] == "InvalidParameterException"


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        ({}, "InvalidRequestException"),
        ({"resourcesVpcConfig": {"endpointPrivateAccess": True}, "logging": LOGS}, "InvalidRequestException"),
        ({"resourcesVpcConfig": {"endpointPublicAccess": False}}, "InvalidParameterException"),
        ({"resourcesVpcConfig": {"endpointPublicAccess": True}}, "InvalidParameterException"),
        ({"resourcesVpcConfig": {"subnetIds": ["subnet-1"]}}, "InvalidParameterException"),
        ({"logging": {"clusterLogging": [{"types": ["api"], "enabled": False}]}}, "InvalidParameterException"),
        ({"accessConfig": {"authenticationMode": "CONFIG_MAP"}}, "InvalidParameterException"),
    ],
)
def test_invalid_updates(world, refusal, stated, code):
    world.active()
    assert refusal(world.client("eks").update_cluster_config, name="runbook", **stated)[:2] == (400, code)


def test_an_old_cluster_gets_access_entries_and_keeps_its_creator(world, refusal):
    world.active(accessConfig={"authenticationMode": "CONFIG_MAP"})
    eks = world.client("eks")
    direct = {"name": "runbook", "accessConfig": {"authenticationMode": "API"}}
    assert refusal(eks.update_cluster_config, **direct)[1] == "InvalidParameterException"  # a step at a time
    eks.update_cluster_config(name="runbook", accessConfig={"authenticationMode": "API_AND_CONFIG_MAP"})
    assert eks.list_access_entries(clusterName="runbook")["accessEntries"] == []
    assert eks.describe_cluster(name="runbook")["cluster"]["accessConfig"]["authenticationMode"] == "API_AND_CONFIG_MAP"


def test_a_cluster_with_an_invalid_key(world, refusal):
    gone = [{"resources": ["secrets"], "provider": {"keyArn": "arn:aws:kms:us-east-1:123456789012:key/none"}}]
    assert "is not a key of this account" in refusal(world.cluster, encryptionConfig=gone)[2]
    nobody = {"subnetIds": world.subnets(), "endpointPublicAccess": False}
    assert "cannot be false" in refusal(world.cluster, resourcesVpcConfig=nobody)[2]
