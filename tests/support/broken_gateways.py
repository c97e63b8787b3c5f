"""What can be broken about a Gateway, its routes and its policies in the Gateway API, and what `why` says of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lib import diagnose
from lib.istio import policies
from lib.istio.mesh import SELECTORS
from lib.names import GATEWAY_GROUP, ISTIO_INGRESS
from lib.polling import wait
from lib.probes.scenarios.rotation import set_istiod_environment
from lib.run import Run
from lib.steps import endpoints, gateway_tls, tokens
from tests.support.hands import shell

HOST, NAME = "httpbin.example", "httpbin-gateway"
Change = Callable[[dict], object]
Place = tuple[str, str]  # kind, name
GATEWAY, ROUTE = ("Gateway", NAME), ("HTTPRoute", "httpbin")


@dataclass(frozen=True)
class Broken:
    """Something broken, the cause that `why` names, and a word of what to change.

    Attributes:
        cause: The cause.
        advice: Words of the advice.
        parts: The objects that are broken, each with what is changed about it; None creates the object.
        url: The URL that is asked, with the address of the gateway as `{}`.
        evidence: Words of the evidence.
    """

    cause: str
    advice: str
    parts: Sequence[tuple[Place | dict[str, Any], Change | None]]
    url: str = "https://{}/headers"
    evidence: str = ""


def parent(**changed: str) -> Change:
    return lambda route: route["spec"]["parentRefs"][0].update(changed)


def backend(**changed: str) -> Change:
    return lambda route: route["spec"]["rules"][0]["backendRefs"][0].update(changed)


def rule(**changed: Any) -> Change:
    return lambda route: route["spec"]["rules"][0].update(changed)


def path(kind: str, value: str) -> Change:
    return rule(matches=[{"path": {"type": kind, "value": value}}])


def rewrite(**changed: Any) -> Change:
    return rule(filters=[{"type": "URLRewrite", "urlRewrite": changed}])


def listener(place: int, **changed: Any) -> Change:
    return lambda gateway: gateway["spec"]["listeners"][place].update(changed)


def plain_first(gateway: dict) -> None:
    """Let a listener of plain HTTP at port 443 precede that of HTTPS."""
    listeners = gateway["spec"]["listeners"]
    plain = {key: value for key, value in listeners[0].items() if key != "tls"}
    listeners.insert(0, {**plain, "name": "first", "protocol": "HTTP"})


def both(*changes: Change) -> Change:
    return lambda found: [change(found) for change in changes]


def policy(namespace: str, kind: str = policies.RULES, gateway: str = "", **spec: Any) -> tuple[dict[str, Any], None]:
    """Return a policy, by default for all that a Gateway gets."""
    reference = {"group": GATEWAY_GROUP, "kind": "Gateway", "name": gateway}
    target = {"targetRefs": [reference]} if gateway else {"selector": {"matchLabels": {"istio": "ingressgateway"}}}
    about = {"apiVersion": policies.API, "kind": kind, "metadata": {"name": "astray", "namespace": namespace}}
    return {**about, "spec": {**target, **spec}}, None


DENY = {"action": "DENY", "rules": [{}]}
JWT = {"jwtRules": [{"issuer": "https://sso.example"}]}
FROM_SAME = {"namespaces": {"from": "Same"}}
FROM_ALL = {"namespaces": {"from": "All"}}


def allow(**operation: Any) -> dict[str, Any]:
    return {"rules": [{"to": [{"operation": operation}]}]}


ELSEWHERE = {"mode": "Terminate", "certificateRefs": [{"name": "gateway-tls", "namespace": "keycloak-edge"}]}
INTERNAL = "web.internal"
BROKEN = {  # by name, beside the labs' faults
    "no such Gateway": Broken("route-not-accepted", "correct the parentRef's name", [(ROUTE, parent(name="gone"))]),
    "no such listener": Broken("route-not-accepted", "sectionName", [(ROUTE, parent(sectionName="htps"))]),
    "the listener takes its own namespace": Broken(
        "route-not-accepted", "allowedRoutes", [(GATEWAY, listener(0, allowedRoutes=FROM_SAME))]
    ),
    "no ReferenceGrant": Broken(
        "route-not-accepted", "ReferenceGrant", [(ROUTE, backend(name="open", namespace="probes"))]
    ),
    "a hostname that no listener has": Broken(
        "route-not-accepted",
        "give the HTTPRoute a hostname",
        [
            (GATEWAY, listener(1, hostname="other.example", allowedRoutes=FROM_ALL)),
            (ROUTE, both(parent(sectionName="http"), lambda route: route["spec"].update(hostnames=[HOST]))),
        ],
        "http://{}/headers",
    ),
    "a certificate of another namespace": Broken(
        "listener-not-programmed",
        "ReferenceGrant in the namespace of the Secret",
        [(GATEWAY, listener(0, tls=ELSEWHERE))],
    ),
    "two protocols at one port": Broken("listener-not-programmed", "another port", [(GATEWAY, plain_first)]),
    "an exact path with a slash": Broken(
        "path-not-routed", "correct the path", [(ROUTE, path("Exact", "/headers/"))], evidence="a slash at the end"
    ),
    "a prefix that is no segment": Broken(
        "path-not-routed", "correct the path", [(ROUTE, path("PathPrefix", "/head"))], evidence="whole segments"
    ),
    "a regular expression of a beginning": Broken(
        "path-not-routed", "correct the path", [(ROUTE, path("RegularExpression", "/head"))], evidence="whole path"
    ),
    "a policy in another namespace": Broken(
        "target-ref", "in the namespace istio-ingress", [policy("foo", gateway=NAME, **DENY)]
    ),
    "a policy for no Gateway": Broken(
        "target-ref", "correct the name", [policy(ISTIO_INGRESS, gateway="gone", **DENY)]
    ),
    "a policy that selects a gateway elsewhere": Broken(
        "wrong-namespace", "in the namespace istio-ingress", [policy("foo", **DENY)]
    ),
    "a RequestAuthentication in another namespace": Broken(
        "target-ref", "in the namespace istio-ingress", [policy("foo", policies.REQUESTS, NAME, **JWT)]
    ),
    "a RequestAuthentication for no Gateway": Broken(
        "target-ref", "correct the name", [policy(ISTIO_INGRESS, policies.REQUESTS, "gone", **JWT)]
    ),
    "a policy that selects a gateway of the Gateway API": Broken(
        "denied", "read the rule", [policy(ISTIO_INGRESS, **DENY)], evidence="istio-ingress/astray"
    ),
    "a host that is rewritten after the gateway's policy": Broken(
        "host-not-allowed",
        "use a host that is allowed",
        [(ROUTE, rewrite(hostname=INTERNAL)), policy(ISTIO_INGRESS, gateway=NAME, **allow(hosts=[INTERNAL]))],
        evidence="only after the gateway's policies",
    ),
    "a path that is rewritten after the gateway's policy": Broken(
        "path-not-allowed",
        "use a path that is allowed",
        [
            (ROUTE, rewrite(path={"type": "ReplaceFullPath", "replaceFullPath": "/get"})),
            policy(ISTIO_INGRESS, gateway=NAME, **allow(paths=["/get"])),
        ],
        evidence="only after the gateway's policies",
    ),
    "a host that is rewritten before the workload's policy": Broken(
        "host-not-allowed",
        "use a host that is allowed",
        [
            (ROUTE, rewrite(hostname=INTERNAL)),
            policy("foo", selector={"matchLabels": {"app": "httpbin"}}, action="DENY",
                   rules=[{"to": [{"operation": {"notHosts": [HOST]}}]}]),
        ],
        evidence="and policies see the host after that",
    ),
    "a denial at the gateway that two slashes pass": Broken(
        "path-normalization",
        "MERGE_SLASHES",
        [policy(ISTIO_INGRESS, gateway=NAME, action="DENY", **allow(paths=["/headers"]))],
        "https://{}//headers",
        "at the gateway",
    ),
}  # fmt: skip


def check(here: Run, name: str) -> None:
    """Break it, ask `why` until it names the cause, and mend it."""
    broken, token = BROKEN[name], tokens.user_token(here)
    url = f"{endpoints.ingress_url(here)}/headers"

    def why(asked: str = url) -> diagnose.Diagnosis:
        return diagnose.ask(here.cluster, asked, token, host=HOST)

    # The gateway's threads follow one after the other: one of them may still have the state before
    wait("the way in to be as it was", why, lambda one: one.cause == "allowed", deadline=30)
    asked, mends = broken.url.format(endpoints.gateway_host(here)), []
    try:
        for place, change in broken.parts:
            mends.append(_break(here, place, change))
        said = wait(
            f"why to say {broken.cause}", lambda: why(asked), lambda one: one.cause == broken.cause, deadline=30
        )
    finally:
        for mend in mends:
            mend()
    assert broken.advice in said.change and broken.evidence in str(said), str(said)
    wait("the way in to be mended", why, lambda one: one.cause == "allowed", deadline=60)


def _break(here: Run, place: Place | dict[str, Any], change: Change | None) -> Callable[[], object]:
    """Break or create an object; return what mends that."""
    if isinstance(place, dict):
        here.apply([place])
        return lambda: here.delete(place)
    objects = [*gateway_tls.gateway(here), *gateway_tls.route(here, "httpbin")]
    (whole,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == place]
    other = copy.deepcopy(whole)
    if change:
        change(other)
    here.apply([other])
    return lambda: here.apply([whole])


def check_only_targets(here: Run) -> None:
    """Let istiod take only policies with targetRefs at gateways, ask `why` about one with a selector, run its command.

    Source: https://istio.io/latest/docs/reference/commands/pilot-discovery/ (ENABLE_SELECTOR_BASED_K8S_GATEWAY_POLICY)
    """
    denial, _ = policy(ISTIO_INGRESS, **DENY)
    url, token = f"{endpoints.ingress_url(here)}/headers", tokens.user_token(here)

    def why() -> diagnose.Diagnosis:
        return diagnose.ask(here.cluster, url, token, host=HOST)

    try:
        here.apply([denial])
        wait("the policy to be in force", why, lambda one: one.cause == "denied", deadline=30)
        set_istiod_environment(here, **{SELECTORS: "false"})
        said = wait("the policy to be in vain", why, lambda one: one.cause == "target-ref", deadline=60)
        assert SELECTORS in said.why and said.command
        shell(said.command)
        wait("the policy to be in force again", why, lambda one: one.cause == "denied", deadline=30)
    finally:
        here.delete(denial)
        set_istiod_environment(here)
    wait("the way in to be mended", why, lambda one: one.cause == "allowed", deadline=60)
