"""`why` reads an external authorizer's decision: its engine, id and rule, or why there is none."""

import json

import pytest

from lib import diagnose
from lib.crypto.base64url import encoded
from lib.diagnose.collect import collect
from lib.diagnose.request import Request
from tests.support import recorded_mesh
from tests.support.recorded_mesh import istiod, pod, service

KEY = "request.auth.claims[realm_access][roles]"
DECISION = {
    "decision_id": "r",
    "engine": "rego",
    "allowed": False,
    "rule": "GET /headers",
    "reason": "the token has none of the roles",
    "wants": [{"key": KEY, "values": ["editor", "admin"]}],
    "microseconds": 900,
}
PROVIDER = {"name": "roles", "envoyExtAuthzGrpc": {"service": "authorizer.shop.svc.cluster.local", "port": 9191}}


class Mesh(recorded_mesh.Mesh):
    """A recorded mesh whose authorizer has written this log."""

    log = ""

    def logs(self, name, namespace, container, seconds):
        """The log of a pod."""
        return self.log if name == "authorizer-1" else super().logs(name, namespace, container, seconds)


def why(log, details="ext_authz_denied", ready=True, roles=("reader",)):
    """The diagnosis of a request that the authorizer did not let in."""
    authorizer = pod("authorizer", "shop", {"app": "authorizer"}, "10.0.0.9")
    if not ready:
        authorizer["status"]["conditions"] = []
        authorizer["status"]["containerStatuses"] = [{"name": "app", "state": {"waiting": {"reason": "ErrImagePull"}}}]
    custom = {"selector": {"matchLabels": {"app": "web"}}, "action": "CUSTOM", "provider": {"name": "roles"}}
    objects = [
        pod("web", "shop", {"app": "web"}, "10.0.0.8"),
        pod("caller", "shop", {"app": "caller"}, "10.0.0.7"),
        service("web", "shop", {"app": "web"}, 8000, 8080),
        authorizer,
        service("authorizer", "shop", {"app": "authorizer"}, 9191, 9191),
        *istiod({"accessLogFile": "/dev/stdout", "extensionProviders": [PROVIDER]}),
        {"kind": "AuthorizationPolicy", "metadata": {"name": "ask", "namespace": "shop"},
         "spec": {**custom, "rules": [{}]}},
    ]  # fmt: skip
    mesh = Mesh(objects, {"status": 403, "body": "authorizer: access denied"}, {"web": [403, "UAEX", details]})
    mesh.log = "starting\n" + "\n".join(json.dumps(line) for line in log)
    claims = {"iss": "x", "sub": "u", "realm_access": {"roles": list(roles)}}
    token = ".".join([*(encoded(json.dumps(one).encode()) for one in ({"alg": "RS256"}, claims)), encoded(b"s" * 32)])
    request = Request("http://web.shop:8000/headers", token)
    return diagnose.diagnose(collect(mesh, request, "caller", lambda name: set(), mesh.send, 0))


def test_the_decision_names_its_engine_id_rule_and_what_the_token_has():
    found = why([{**DECISION, "decision_id": "other"}, DECISION])
    assert found.cause == "authorizer-refused"
    for words in ("rego", "decision r", "GET /headers", "shop/authorizer", f"editor, admin at {KEY}", "has reader"):
        assert words in found.why, words


def test_a_slip_of_the_claim_is_named_as_for_the_meshs_own_rules():
    found = why([DECISION], roles=("Editor",))
    assert found.cause == "role-case" and "rego" in found.why and "the policy of shop/authorizer" in found.change


@pytest.mark.parametrize(
    ("log", "details", "ready", "cause", "words"),
    [
        ([{**DECISION, "engine": "", "error": "no policy is for this workload"}], "ext_authz_denied", True,
         "authorizer-error", "no policy is for this workload"),
        ([{**DECISION, "microseconds": 3_000_000}], "ext_authz_error", True, "authorizer-slow", "took 3.0 s"),
        ([], "ext_authz_error", False, "authorizer-unreachable", "shop/authorizer is not ready: app: ErrImagePull"),
        ([], "ext_authz_denied", True, "external-authorizer", "roles of the policy shop/ask"),
    ],
)  # fmt: skip
def test_an_authorizer_without_a_decision_of_its_own(log, details, ready, cause, words):
    found = why(log, details, ready)
    assert found.cause == cause and words in found.why, str(found)
