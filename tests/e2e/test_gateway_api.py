"""The Gateway API on the sandbox: `why` names what is broken in it, and a translated gateway answers as the old one."""

from __future__ import annotations

import copy
from random import Random

import pytest

from lib import diagnose, params
from lib.polling import wait
from lib.record.events import Record
from lib.run import Run
from lib.steps import endpoints, gateway_tls, tokens
from tests.support.side_by_side import SideBySide

pytestmark = pytest.mark.sandbox
HOSTS = 15  # of the gateway whose translation stands beside it


@pytest.fixture(scope="module")
def here(first):
    return Run("gateway-api", params.load("dev"), Record())


def test_a_translated_gateway_answers_as_the_old_one_does(here):
    forms = SideBySide(here, Random(20261128))
    try:
        forms.build(HOSTS)
        asked, then, now = forms.answers(HOSTS, 10)
        assert then == now
        assert {200, 301, 401, 403, 404} <= {status for status, _, _ in then}  # each answer is common
        assert len(asked) == 10 * HOSTS and forms.removed()
    finally:
        forms.close()


def parent(**changed: str):
    return lambda route: route["spec"]["parentRefs"][0].update(changed)


def backend(**changed: str):
    return lambda route: route["spec"]["rules"][0]["backendRefs"][0].update(changed)


def from_same_namespace(gateway: dict) -> None:
    gateway["spec"]["listeners"][0]["allowedRoutes"]["namespaces"]["from"] = "Same"


def targets(namespace: str, name: str) -> dict:
    """Return a policy that denies everything at a Gateway."""
    reference = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name}
    about = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy"}
    spec = {"action": "DENY", "rules": [{}], "targetRefs": [reference]}
    return {**about, "metadata": {"name": "astray", "namespace": namespace}, "spec": spec}


GATEWAY, ROUTE = ("Gateway", "httpbin-gateway"), ("HTTPRoute", "httpbin")
BROKEN = {  # by name, beside the labs' faults: what is broken, how, the cause, and a word of what to change
    "no such Gateway": (ROUTE, parent(name="gone"), "route-not-accepted", "correct the parentRef's name"),
    "no such listener": (ROUTE, parent(sectionName="htps"), "route-not-accepted", "sectionName"),
    "the listener takes its own namespace": (GATEWAY, from_same_namespace, "route-not-accepted", "allowedRoutes"),
    "no ReferenceGrant": (ROUTE, backend(name="open", namespace="probes"), "route-not-accepted", "ReferenceGrant"),
    "a policy in another namespace": (targets("foo", GATEWAY[1]), None, "target-ref", "in the namespace istio-ingress"),
    "a policy for no Gateway": (targets("istio-ingress", "gone"), None, "target-ref", "correct the name"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_why_names_what_is_broken_in_the_gateway_api(here, name):
    url, token = f"{endpoints.ingress_url(here)}/headers", tokens.user_token(here)
    why = lambda: diagnose.ask(here.cluster, url, token, host="httpbin.example")  # noqa: E731
    assert why().cause == "allowed"
    broken, change, cause, advice = BROKEN[name]
    if change is None:
        here.apply([broken])
        mend = lambda: here.delete(broken)  # noqa: E731
    else:
        objects = [*gateway_tls.gateway(here), *gateway_tls.route(here, "httpbin")]
        (whole,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == broken]
        other = copy.deepcopy(whole)
        change(other)
        here.apply([other])
        mend = lambda: here.apply([whole])  # noqa: E731
    try:
        said = wait(f"why to say {cause}", why, lambda one: one.cause == cause, deadline=30)
    finally:
        mend()
    assert advice in said.change
    wait("the way in to be mended", why, lambda one: one.cause == "allowed", deadline=60)
