"""The control plane's settings except its version: set at creation, changed if they differ, each waited for."""

from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from lib import names, params
from lib.aws import clusters, control_plane, iam_roles
from lib.aws import session as aws_session
from lib.aws.control_plane import ControlPlaneConfig
from lib.errors import AwsError
from lib.planning import plan
from tests.support import whole_eks
from tests.support.stated import IMAGES

TAGS = names.tags("demo")
MINE = ["203.0.113.7/32"]
VALUES = {"env": "real", "cluster_source": "eks", "cluster_name": "demo", "istio_tag": "1", **IMAGES}


@pytest.fixture
def session():
    with whole_eks.account() as made:
        yield made


def cluster(session, wanted):
    role = iam_roles.ensure_role(aws_session.client(session, "iam"), "demo-cluster", "eks.amazonaws.com", [], TAGS)[0][
        "Arn"
    ]
    subnets = [one["SubnetId"] for one in aws_session.client(session, "ec2").describe_subnets()["Subnets"][:2]]
    service = aws_session.client(session, "eks")
    clusters.ensure_cluster(service, "demo", "1.36", role, subnets, TAGS, config=wanted)
    return clusters.find_cluster(service, "demo")


def ensure(session, wanted):
    """Return what was changed, part by part, and the cluster."""
    service, parts = aws_session.client(session, "eks"), []
    found, action = control_plane.ensure(service, clusters.find_cluster(service, "demo"), wanted, 5, parts.append)
    assert action == ("changed" if parts else "unchanged")
    return parts, found


def key(session):
    return aws_session.client(session, "kms").create_key()["KeyMetadata"]["Arn"]


def test_a_new_cluster_has_it_from_the_beginning(session):
    wanted = ControlPlaneConfig(cidrs=MINE, logs=["audit", "api"], key=key(session))
    found = cluster(session, wanted)
    assert found["resourcesVpcConfig"]["publicAccessCidrs"] == MINE
    assert found["resourcesVpcConfig"]["endpointPrivateAccess"] is True
    assert found["encryptionConfig"] == [{"resources": ["secrets"], "provider": {"keyArn": wanted.key}}]
    assert control_plane.differences(found, wanted) == [] and ensure(session, wanted)[0] == []


def test_what_differs_is_changed_one_update_after_the_other(session):
    cluster(session, ControlPlaneConfig(cidrs=MINE, logs=["api"]))
    wanted = ControlPlaneConfig(cidrs=["198.51.100.0/24", *MINE], logs=["audit"], key=key(session))
    parts, found = ensure(session, wanted)
    assert parts == ["endpoint access", "logs", "secrets"] and control_plane.differences(found, wanted) == []
    assert ensure(session, wanted)[0] == []
    parts, found = ensure(session, ControlPlaneConfig(public=False, logs=[], key=wanted.key))
    assert parts == ["endpoint access", "logs"]
    assert found["resourcesVpcConfig"]["endpointPublicAccess"] is False


def test_the_key_of_secrets_is_given_once(session):
    first = key(session)
    found = cluster(session, ControlPlaneConfig(cidrs=MINE, key=first))
    for other in (None, key(session)):
        with pytest.raises(AwsError, match="expected KMS key of secrets of cluster demo to be .*cannot be changed"):
            ensure(session, ControlPlaneConfig(cidrs=MINE, key=other))
        (told,) = [one for one in control_plane.differences(found, ControlPlaneConfig(cidrs=MINE, key=other))]
        assert told.field == "KMS key of secrets" and told.change == "no"


def test_a_failed_update_is_an_error_with_its_code(session):
    found = cluster(session, ControlPlaneConfig(cidrs=MINE))
    service = aws_session.client(session, "eks")
    service.tag_resource(resourceArn=found["arn"], tags={"eks-sandbox/update": "OperationNotPermitted"})
    with pytest.raises(AwsError, match="cluster demo .logs. to be Successful, got Failed: OperationNotPermitted: "):
        ensure(session, ControlPlaneConfig(cidrs=MINE, logs=["api"]))


def test_a_real_account_requires_public_access_cidrs(session, monkeypatch):
    monkeypatch.setenv("CONFIRM", "yes")
    wanted = params.Params(**VALUES, account_id="123456789012")
    run = SimpleNamespace(params=wanted, aws=lambda name: aws_session.client(session, name), tags=TAGS)
    for ask in (lambda: plan.guard(run), lambda: ControlPlaneConfig.of(wanted)):
        with pytest.raises(
            AwsError, match="expected public_access_cidrs in the params, .*checkip.*0.0.0.0/0 for everyb"
        ):
            ask()
    plan.guard(SimpleNamespace(**{**vars(run), "params": wanted.model_copy(update={"public_access_cidrs": MINE})}))


@pytest.mark.parametrize(
    ("values", "cidrs"),
    [
        ({"aws_endpoint_url": "http://127.0.0.1:1"}, None),
        ({"public_access_cidrs": MINE}, MINE),
        ({"public_access_cidrs": ["0.0.0.0/0"]}, ["0.0.0.0/0"]),
        ({"endpoint_public_access": False}, None),
    ],
)
def test_the_params_set_the_endpoint_access_of_eks(values, cidrs):
    reach = ControlPlaneConfig.of(params.Params(**VALUES, **values)).endpoint_access
    assert reach.get("publicAccessCidrs") == cidrs and reach["endpointPrivateAccess"] is True


def test_the_plan_tells_of_it():
    found = {"name": "demo", "resourcesVpcConfig": {"endpointPublicAccess": True, "publicAccessCidrs": ["0.0.0.0/0"]}}
    found_differences = control_plane.differences_from_params(found, params.Params(**VALUES, public_access_cidrs=MINE))
    assert [(one.field, one.found, one.wanted, one.change) for one in found_differences] == [
        ("endpointPrivateAccess", "false", "true", "yes"),
        ("publicAccessCidrs", "0.0.0.0/0", "203.0.113.7/32", "yes"),
    ]
    assert control_plane.differences_from_params(found, params.Params(**VALUES)) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"public_access_cidrs": ["203.0.113.7"]}, "203.0.113.7 is no network"),
        ({"endpoint_public_access": False, "endpoint_private_access": False}, "nobody would reach"),
        ({"endpoint_public_access": False, "public_access_cidrs": MINE}, "endpoint_public_access is false"),
        ({"endpoint_private_access": False, "public_access_cidrs": MINE}, "shut the nodes out"),
        ({"control_plane_logs": ["all"]}, "control_plane_logs"),
        ({"secrets_kms_key_arn": "alias/mine"}, "secrets_kms_key_arn"),
    ],
)
def test_params_that_cannot_be(wrong, words):
    with pytest.raises(ValidationError, match=words):
        params.Params(**VALUES, **wrong)
