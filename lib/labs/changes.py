"""The changes that faults make to the lab: to policies, routes, the Gateway, the workload, istiod, Keycloak."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lib.diagnose import jwks, pods
from lib.labs.lab import APP, NAMESPACE, Lab, Object
from lib.polling import wait
from lib.probes import workloads
from lib.probes.model import HARDENED
from lib.probes.scenarios import rotation
from lib.steps import endpoints, gateway_tls, realm

PATIENCE = 40  # seconds that a change may take to reach the proxies
GIVEN_UP = "Failed to refresh JWT public key"  # istiod's words
Change = Callable[[Lab], object]

# The token's policy: RequestAuthentication, keys


def issuer(change: Callable[[str], str]) -> Change:
    """Return a change of the policy's issuer."""
    return lambda lab: lab.set_jwt_rule(issuer=change(endpoints.issuer(lab.run)))


def jwks_uri(uri: str) -> Change:
    """Return a change of the policy's jwksUri."""
    return lambda lab: lab.set_jwt_rule(jwksUri=uri)


def missing_realm(lab: Lab) -> None:
    """Let the jwksUri name a realm that does not exist."""
    lab.set_jwt_rule(jwksUri=endpoints.jwks_uri(lab.run, "nowhere"))


def policy_before_realm(lab: Lab) -> None:
    """Apply the policy first, and create its realm after istiod has failed to fetch the keys."""
    name = lab.new_realm_name()
    _use_realm(lab, name)

    def given_up() -> bool:
        # istiod tries seven times more, a second apart (jwks_resolver.go), and would find a realm created meanwhile
        return any(GIVEN_UP in line and name in line for line in jwks.istiod_log(lab.cluster, PATIENCE))

    wait("istiod to give up", given_up, deadline=PATIENCE)
    lab.kept["token"] = lab.realm_token(name)


def rotated_key(lab: Lab) -> None:
    """Let Envoy fetch the realm's keys, then give the realm a newer key."""
    name = lab.new_realm_name()
    first = lab.realm_token(name)
    _use_realm(lab, name)
    wait(
        "Envoy to have the realm's keys",
        lambda: lab.ask(first).cause,
        lambda cause: cause == "issuer-not-in-rule",
        deadline=PATIENCE,
    )
    lab.rotate_key(name)
    lab.kept["token"] = lab.realm_token(name)


def second_issuer(lab: Lab) -> None:
    """Let the RequestAuthentication accept a second realm, which no rule allows."""
    authentication = lab.policies()[0]
    other = {"issuer": endpoints.issuer(lab.run, realm.OTHER), "jwksUri": endpoints.jwks_uri(lab.run, realm.OTHER)}
    spec = authentication["spec"]
    lab.apply([{**authentication, "spec": {**spec, "jwtRules": [*spec["jwtRules"], other]}}])


def _use_realm(lab: Lab, name: str) -> None:
    lab.set_jwt_rule(issuer=endpoints.issuer(lab.run, name), jwksUri=endpoints.jwks_uri(lab.run, name))


# Rules: AuthorizationPolicy, PeerAuthentication, DestinationRule


def source(**fields: Any) -> Object:
    """Return a rule for requests from this source."""
    return {"from": [{"source": fields}]}


def users(lab: Lab, **more: Any) -> Object:
    """Return a rule for users with a token of the realm, and further fields of the rule."""
    return {**source(requestPrincipals=[f"{endpoints.issuer(lab.run)}/*"]), **more}


def rule_for(**operation: Any) -> Change:
    """Let the policy allow users this operation alone."""
    return lambda lab: lab.set_authorization({**users(lab), "to": [{"operation": operation}]})


def rule_when(key: str, *values: str, **more: Any) -> Change:
    """Let the policy allow users under this condition alone."""
    condition = {"key": key, **({"values": list(values)} if values else {}), **more}
    return lambda lab: lab.set_authorization(users(lab, when=[condition]))


def labelled(**metadata: dict[str, str]) -> Change:
    """Give the AuthorizationPolicy labels or annotations."""

    def change(lab: Lab) -> None:
        policy = lab.policies()[1]
        lab.apply([{**policy, "metadata": {**policy["metadata"], **metadata}}])

    return change


def deny_headers(lab: Lab) -> None:
    """Deny the path /headers."""
    rules = [{"to": [{"operation": {"paths": ["/headers"]}}]}]
    spec = {"selector": {"matchLabels": {"app": APP}}, "action": "DENY", "rules": rules}
    lab.apply([_istio("security", "AuthorizationPolicy", "no-headers", spec)])


def policy_elsewhere(lab: Lab) -> None:
    """Move the AuthorizationPolicy to another namespace."""
    policy = lab.policies()[1]
    lab.delete(policy)
    lab.apply([{**policy, "metadata": {**policy["metadata"], "namespace": lab.run.params.namespace}}])


def permissive(lab: Lab) -> None:
    """Set mutual TLS to PERMISSIVE in the lab's namespace."""
    lab.apply([_istio("security", "PeerAuthentication", "default", {"mtls": {"mode": "PERMISSIVE"}})])


def plain_destination_rule(lab: Lab) -> None:
    """Let callers send plain text."""
    spec = {"host": f"{APP}.{NAMESPACE}.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}
    lab.apply([_istio("networking", "DestinationRule", "plain", spec)])


def sidecar(lab: Lab) -> None:
    """Let the lab's callers know the Services of istio-system alone."""
    lab.apply([_istio("networking", "Sidecar", "default", {"egress": [{"hosts": ["istio-system/*"]}]})])


def _istio(group: str, kind: str, name: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": f"{group}.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


# The way in: Service, VirtualService or HTTPRoute, Gateway of either API

WITHOUT_TOKEN = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["authorization"]}}
TO_OUTAGE_PAGE = {"type": "RequestRedirect", "requestRedirect": {"hostname": "outage.example", "statusCode": 302}}


def service(**changed: Any) -> Change:
    """Return a change of the Service's spec."""

    def change(lab: Lab) -> None:
        found = next(one for one in lab.workload() if one["kind"] == "Service")
        lab.apply([{**found, "spec": {**found["spec"], **changed}}])

    return change


def route(**changed: Any) -> Change:
    """Return a change of the only rule of the VirtualService or HTTPRoute; None removes a field."""

    def change(lab: Lab) -> None:
        (whole,) = lab.route()
        spec = whole["spec"]
        rules = "rules" if "rules" in spec else "http"
        rule = {name: one for name, one in {**spec[rules][0], **changed}.items() if one is not None}
        lab.apply([{**whole, "spec": {**spec, rules: [rule]}}])

    return change


def gateway(changed: Callable[[Object], object]) -> Change:
    """Return a change of the spec of the runbook's Gateway."""

    def change(lab: Lab) -> None:
        found = next(one for one in gateway_tls.gateway(lab.run) if one["kind"] == "Gateway")
        changed(found["spec"])
        lab.apply([found])

    return change


def hardened_gateway(lab: Lab) -> str:
    """Return the hardened gateway's address."""
    return str(workloads.location(lab.run, HARDENED).address).rpartition(":")[0]


# The workload


def failing_probe(lab: Lab) -> None:
    """Let the application answer its readiness probe with 500."""
    lab.replace_workload({}, probe_path="/status/500")
    _wait_probe_failed(lab)


def plain_text_probe(lab: Lab) -> None:
    """Let the kubelet's probe reach the workload directly, past the sidecar's agent."""
    lab.replace_workload({"sidecar.istio.io/rewriteAppHTTPProbers": "false"})
    _wait_probe_failed(lab)


def _wait_probe_failed(lab: Lab) -> None:
    """Wait until no pod of the workload is ready, and the kubelet has reported why."""

    def workload() -> pods.Workload | None:
        found = lab.cluster.items("v1", "Pod", NAMESPACE, f"app={APP}")
        return pods.workload_of(found, pods.probe_failure(lab.cluster, found))

    def failed(found: pods.Workload | None) -> bool:
        return found is not None and any(words in found.problem for words in pods.PROBE_FAILED)

    wait("the kubelet to report a failed probe", workload, failed, deadline=lab.run.params.deadline)


# istiod and Keycloak


@contextmanager
def istiod_down(lab: Lab) -> Iterator[None]:
    """Stop istiod, then delete the policy that it should have removed from the proxies."""
    with lab.stopped("istiod"):
        lab.delete(lab.policies()[1])  # the API server accepts a deletion while istiod's webhook does not answer
        yield


@contextmanager
def slow_istiod(lab: Lab) -> Iterator[None]:
    """Let istiod collect changes for some time before it sends them, as on a busy mesh."""
    try:
        rotation.set_istiod_environment(lab.run, PILOT_DEBOUNCE_AFTER="20s", PILOT_DEBOUNCE_MAX="25s")
        lab.set_authorization({})
        yield
    finally:
        rotation.set_istiod_environment(lab.run)


@contextmanager
def keycloak_down(lab: Lab) -> Iterator[None]:
    """Stop Keycloak, then let istiod fetch the keys from a URI that it has never cached."""
    token = lab.good_token
    with lab.stopped("keycloak"):
        lab.set_jwt_rule(jwksUri=f"{endpoints.jwks_uri(lab.run)}?asked={time.time_ns():x}")
        lab.kept["token"] = token
        yield
