"""Answers of others than the application and the policies, told by Envoy's response code details.

Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/response_code_details
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.diagnose import plain_text, roles, seen
from lib.diagnose.authorizers import Authorizer
from lib.diagnose.diagnosis import Diagnosis, explain, workload_name
from lib.diagnose.evidence import Evidence
from lib.istio import policies
from lib.istio.evaluator import Miss, alternatives, unread
from lib.istio.gateway_api import NO_PARENT
from lib.kubernetes import kubectl

LIMIT = "60 KiB"  # Envoy's max_request_headers_kb
ROUTE_CHANGES = {  # reasons of a route's conditions: https://gateway-api.sigs.k8s.io/reference/spec/
    "NotAllowedByListeners": "let the Gateway's listener take routes of that namespace: allowedRoutes.namespaces.from",
    "NoMatchingListenerHostname": "give the HTTPRoute a hostname that a listener of the Gateway has",
    "RefNotPermitted": "apply a ReferenceGrant in the namespace of the backend",
    "BackendNotFound": "correct the backend's name, or create the Service",
    "NoMatchingParent": "give the parentRef a sectionName and a port that a listener of the Gateway has",
    NO_PARENT: "correct the parentRef's name and namespace: without one, it is the route's own",
}


def find_cause(evidence: Evidence) -> Diagnosis | None:
    """Return the cause of an answer by an external authorizer, a rate limit, a codec, or a route itself."""
    details = evidence.details
    status = evidence.answer.status
    if details.startswith("ext_authz"):
        return _external(evidence, details)
    if status == 431 or "headers_too_large" in details or "too_many_headers" in details:
        return _too_large(evidence)
    limited = "rate_limited" in details or (evidence.refuser and {"RL", "RLSE"} & {*evidence.refuser.flags.split(",")})
    if limited or (status == 429 and details != "via_upstream"):
        why = f"a rate limit refused the request ({details or status})"
        change = "send fewer requests, or raise the limit: an EnvoyFilter with local_ratelimit or ratelimit has it"
        return explain(evidence, "rate-limited", why, change)
    if status == 400 and evidence.answer.body == "Bad Request" and not evidence.refuser:
        why = "Envoy could not read the request, before any filter and without a line in its log"
        return explain(evidence, "codec", why, "check the URL, the headers' characters, and HTTP or HTTPS on this port")
    if status == 413 and details != "via_upstream":
        why = f"the request's body is larger than a filter of Envoy takes ({details or 'no line in the log'})"
        change = (
            "send less; or raise includeRequestBodyInCheck.maxRequestBytes of the external authorizer, or set its "
            "allowPartialMessage"
        )
        return explain(evidence, "body-too-large", why, change)
    if details.startswith("direct_response") and status == 502 and evidence.refuser is evidence.caller_hop:
        return plain_text.out_of_scope(evidence, "answers 502 itself")
    if details.startswith("direct_response") and (found := route_not_accepted(evidence)):
        return found
    if details == "cluster_not_found":
        return route_not_accepted(evidence) or _destination_missing(evidence)
    if details.startswith("direct_response") or (status and evidence.route and evidence.route.answer):
        route = evidence.route.name if evidence.route else "a route"
        why = f"the route itself answers, without the application ({route})"
        change = f"read {route}: a redirect, directResponse or fault is in it, or no backend"
        return explain(evidence, "route-answer", why, change)
    if "fault_filter" in details:
        why = "a fault that a VirtualService injects refused the request"
        return explain(
            evidence, "fault", why, "remove `fault` from the VirtualService", command=_without_fault(evidence)
        )
    return None


def _without_fault(evidence: Evidence) -> str:
    """Return the command that removes the only fault from the VirtualServices on the way, "" if there are several."""
    routes = [(one, http) for one in evidence.virtuals for http in one["spec"].get("http") or [] if "fault" in http]
    return kubectl.edit(routes[0][0], "fault", routes[0][1]["fault"], None) if len(routes) == 1 else ""


def filter_answer(evidence: Evidence) -> Diagnosis | None:
    """Return the cause of a refusal by a filter that is neither Istio's policies nor the application."""
    hop = evidence.refuser
    if evidence.answer.status < 400 or not hop or hop.details in ("", "via_upstream"):
        return None
    why = f"a filter of Envoy answered ({hop.details}), neither a policy nor the application"
    change = "read the settings of the EnvoyFilter or WasmPlugin that adds it: kubectl get envoyfilters,wasmplugins -A"
    return explain(evidence, "filter-answer", why, change)


def route_not_accepted(evidence: Evidence) -> Diagnosis | None:
    """Return the cause if the Gateway API did not accept the route for the host."""
    for one in evidence.virtuals:
        if problem := one.get("problem", ""):
            why = f"the HTTPRoute {policies.name(one)} is not in force: {problem}"
            change = change_for(problem, ROUTE_CHANGES, policies.name(one))
            return explain(evidence, "route-not-accepted", why, change)
    return None


def change_for(problem: str, changes: Mapping[str, str], name: str) -> str:
    """Return what to change about an object of the Gateway API, by the reason with which its problem begins."""
    return changes.get(problem.partition(":")[0], f"read its status, and correct {name}")


def _destination_missing(evidence: Evidence) -> Diagnosis:
    """Tell that a route leads to a cluster that Envoy does not have."""
    name, to = (evidence.route.name, evidence.route.destination) if evidence.route else ("a route", "a destination")
    why = f"{name} leads to {to}, which the proxy does not know: no Service has this name, port or subset"
    change = "correct the destination: a name without a namespace is looked up in the route's own"
    return explain(evidence, "destination-missing", why, change)


def _external(evidence: Evidence, details: str) -> Diagnosis:
    decided = next((one for one in evidence.authorizers if one.decision), None)
    if decided and decided.decision:
        return _decided(evidence, decided, decided.decision, details == "ext_authz_error")
    name = _custom(evidence)
    where = workload_name(evidence.guard)
    if details == "ext_authz_error":
        away = "; ".join(f"{one.service} is not ready: {one.problem}" for one in evidence.authorizers if one.problem)
        why = f"the external authorizer{name} did not answer {where}, and Envoy then refuses{away and f' ({away})'}"
        services = ", ".join(one.service for one in evidence.authorizers if one.problem) or "the authorizer"
        change = f"start {services}; if it runs, look whether its address in meshConfig.extensionProviders is right"
        return explain(evidence, "authorizer-unreachable", why, change)
    why = f"the external authorizer{name} answered {evidence.answer.status}, not the application"
    change = (
        "read the authorizer's log; 302 leads to its login page, 401 and 403 are its refusal. Envoy asks it before it "
        "reads tokens: headers that a RequestAuthentication writes are not there yet"
    )
    return explain(evidence, "external-authorizer", why, change)


def _decided(evidence: Evidence, by: Authorizer, decision: Mapping[str, Any], late: bool) -> Diagnosis:
    """Return why an authorizer refused, by its own decision."""
    who = f"the engine {decision.get('engine') or '(none)'} of the authorizer {by.service}"
    known = f"decision {decision['decision_id']}"
    if late:
        why = f"{who} took {decision.get('microseconds', 0) / 1e6:.1f} s ({known}), and Envoy no longer waited"
        change = f"make the policy faster, or raise the timeout of {by.provider} in meshConfig.extensionProviders"
        return explain(evidence, "authorizer-slow", why, change)
    if decision.get("error"):
        why = f"{who} could not decide ({known}): {decision['error']}"
        change = f"correct the policy of {workload_name(evidence.guard)} among the files of {by.service}, or add it"
        return explain(evidence, "authorizer-error", why, change)
    rule = decision.get("rule") or "(none)"
    why = f"{who} refused it by the rule {rule} ({known}): {decision.get('reason')}"
    change = "send a token that has what the rule wants, or change the rule"
    for want in decision.get("wants") or () if evidence.token else ():
        missed = Miss(want["key"], ", ".join(want["values"]), "")
        if slip := roles.find_slip(missed, evidence.claims, f"the policy of {by.service}"):
            return explain(evidence, slip.cause, f"{why}; {slip.why}", slip.change)
        held = roles.value_at(evidence.claims, want["key"])
        why += f"; it wants {missed.wanted} at {want['key']}, where the token has {held}"
    return explain(evidence, "authorizer-refused", why, change)


def _custom(evidence: Evidence) -> str:
    """Return the CUSTOM policies that match, with their providers, as text after a name."""
    custom = [one for one in evidence.rules(policies.RULES) if policies.action(one) == "CUSTOM"]
    call = unread(seen.call(evidence))
    hits = [one for one in custom if any(each.matches is not False for each in alternatives(one, call, evidence.mesh))]
    names = [f"{one['spec'].get('provider', {}).get('name')} of the policy {policies.name(one)}" for one in hits]
    return f" {', '.join(names)}" if names else ""


def _too_large(evidence: Evidence) -> Diagnosis:
    size = sum(len(name) + len(value) for name, value in evidence.headers.items())
    token = next((len(one) for one in evidence.secrets if one.startswith("eyJ")), 0)
    of_these = f", {token} of them the token" if token else ""
    longest = max(evidence.headers, key=lambda name: len(evidence.headers[name]), default="")
    why = f"the request's headers are too large: {size} characters{of_these}, and Envoy takes {LIMIT} by default"
    change = "make the token smaller: fewer roles and groups in it (full scope off, fewer mappers)"
    if longest == "cookie":
        change = "make the cookie smaller: let the login proxy keep its sessions in a store, not in the cookie"
    return explain(evidence, "headers-too-large", why, change)
