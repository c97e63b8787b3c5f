"""The challenge of a missing token: it is in force if the params ask for it, for users alone, and gone afterwards."""

import pytest

from lib.http_client import Answer
from lib.istio import installation
from lib.names import HARDENED
from lib.probes import workloads
from lib.steps import end_user_policy
from tests.lib.steps.test_gateway_kinds import Live
from tests.support.little_cluster import new_run

API = {"apiVersion": "v1", "metadata": {}}
PEER = "connection.uri_san_peer_certificate == "


class Meshed(Live):
    """A cluster in memory with a gateway's pod and Istio's mesh configuration."""

    def __init__(self):
        super().__init__()
        self.kept["ConfigMap", "istio-system", "istio"] = {"kind": "ConfigMap", "data": {"mesh": "{}"}, **API}
        service = installation.KEYCLOAK_GATEWAY[installation.ISTIO]
        self.kept["Service", service.namespace, service.name] = {"kind": "Service", **API}

    def wait_address(self, *_):
        return "198.18.0.2"


def of(status=None, cluster=None):
    return new_run(cluster or Meshed(), **({} if status is None else {"missing_token": status}))


def mapper(run, namespace=""):
    (made,) = end_user_policy.challenge(run, namespace)
    (patch,) = made["spec"]["configPatches"]
    (one,) = patch["patch"]["value"]["typed_config"]["local_reply_config"]["mappers"]
    return made["metadata"]["namespace"], patch["match"]["context"], one


def expression(one):
    return one["filter"]["extension_filter"]["typed_config"]["expression"]


def test_by_default_a_missing_token_is_rbacs_matter():
    assert end_user_policy.challenge(of()) == end_user_policy.challenge(of(403), HARDENED) == []


def test_a_missing_token_gets_401_and_no_error_code():
    _, _, one = mapper(of(401))
    assert one["status_code"] == 401
    (added,) = one["headers_to_add"]
    assert added["header"] == {"key": "www-authenticate", "value": 'Bearer realm="istio"'}  # RFC 6750, 3.1


def test_only_what_the_gateway_sends_to_a_sidecar_is_challenged():
    namespace, context, one = mapper(of(401))
    assert (namespace, context) == ("foo", "SIDECAR_INBOUND")
    assert f"{PEER}'spiffe://cluster.local/ns/istio-system/sa/gw'" in expression(one)


def test_the_hardened_gateway_challenges_itself_whoever_asks():
    run = of(401)
    namespace, context, one = mapper(run, HARDENED)
    assert (namespace, context) == (HARDENED, "GATEWAY") and "('' == '' ||" in expression(one)
    kinds = [(one["kind"], one["metadata"]["name"]) for one in workloads.hardened_objects(run)]
    assert ("EnvoyFilter", "missing-token") in kinds
    assert ("EnvoyFilter", "missing-token") not in [
        (one["kind"], one["metadata"]["name"]) for one in workloads.hardened_objects(of())
    ]


@pytest.mark.parametrize("namespace", ["", HARDENED])
def test_a_param_that_is_taken_back_takes_the_challenge_away_once(namespace):
    cluster = Meshed()
    asked = of(401, cluster)
    end_user_policy.delete_challenge(asked, namespace)
    asked.apply(end_user_policy.challenge(asked, namespace))
    end_user_policy.delete_challenge(asked, namespace)
    assert [row["action"] for row in asked.changes] == ["created"]
    back = of(403, cluster)
    for _ in range(2):
        end_user_policy.delete_challenge(back, namespace)
    assert [row["action"] for row in back.changes] == ["deleted"]
    assert ("EnvoyFilter", namespace or "foo", "missing-token") not in cluster.kept


@pytest.mark.parametrize(
    ("status", "header", "verdicts"),
    [
        (403, None, []),
        (401, 'Bearer realm="istio"', ["pass"]),
        (401, None, ["fail"]),
        (401, "Basic", ["fail"]),
    ],
)
def test_the_check_is_red_without_the_challenge_that_the_params_ask_for(status, header, verdicts):
    run = new_run(Meshed(), missing_token=status, streak=1)
    run.params = run.params.model_copy(update={"answer_deadline": 0})  # no params file may have 0: it asks once
    headers = {"www-authenticate": header} if header else {}
    end_user_policy.check_challenge(run, lambda: Answer(status, "RBAC: access denied", 1.0, headers))
    assert [check.verdict for check in run.checks] == verdicts
