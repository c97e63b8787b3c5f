"""Gateways and HTTPRoutes of the Kubernetes Gateway API in the shape of Istio's Gateway and VirtualService.

Source: https://gateway-api.sigs.k8s.io/reference/spec/ (v1). istiod does the same before it configures Envoy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from lib.istio.policies import GATEWAY_NAME
from lib.names import GATEWAY_GROUP

API = f"{GATEWAY_GROUP}/v1"
TYPES = {"Exact": "exact", "PathPrefix": "prefix", "RegularExpression": "regex"}  # in the order of their precedence

# The conditions that a listener in force has. OverlappingTLSConfig only warns of clients that reuse connections
WANTED = {"Accepted": "True", "Programmed": "True", "ResolvedRefs": "True", "Conflicted": "False"}
FOLLOWS = ("Accepted", "Programmed")  # the conditions of a listener that repeat another one, with less to say
NO_PARENT, NO_CONTROLLER = "NoParent", "NoController"  # reasons beside those of the API


def gateways(found: Iterable[Mapping]) -> list[dict[str, Any]]:
    """Return Gateways of the Gateway API as Istio's; each selects the pods that istiod makes for it."""
    return [_gateway(one) for one in found]


def virtual_services(found: Iterable[Mapping]) -> list[dict[str, Any]]:
    """Return HTTPRoutes as VirtualServices, each with its `original`.

    `problem` says why a route is not in force; "" if it is.
    """
    return [_virtual_service(one) for one in found]


def at_port(routes: Iterable[Mapping], gateways: Sequence[Mapping], port: int) -> list[Mapping]:
    """Return the HTTPRoutes with a parent that takes requests at a port, or that no Gateway has.

    Args:
        routes: HTTPRoutes.
        gateways: Gateways of the Gateway API.
        port: The port that the client asks.
    """
    listeners = {_key(one): one["spec"].get("listeners") or [] for one in gateways}

    def takes(parent: Mapping, home: str) -> bool:
        known = listeners.get(f"{parent.get('namespace', home)}/{parent['name']}", [])
        named = [one for one in known if one["name"] == parent.get("sectionName", one["name"])]
        ports = {one["port"] for one in named} & {parent.get("port", port)}
        return port in ports or not named

    return [
        one
        for one in routes
        if any(takes(parent, one["metadata"]["namespace"]) for parent in one["spec"].get("parentRefs") or [])
    ]


def astray(routes: Iterable[Mapping], gateways: Sequence[Mapping]) -> list[dict[str, Any]]:
    """Return the HTTPRoutes none of whose parents exists, as VirtualServices whose problem says so."""
    known, lost = {_key(one) for one in gateways}, []
    for made in virtual_services(routes):
        parents = made["spec"]["gateways"]
        if parents and not known.intersection(parents):
            lost.append({**made, "problem": f"{NO_PARENT}: there is no Gateway {', '.join(parents)}"})
    return lost


def path_slip(virtual: Mapping, path: str) -> str:
    """Return why none of a route's matches takes a path that looks as if one did, as a clause; "" if none does."""
    matches = [
        match.get("uri") or {} for rule in virtual["spec"].get("http") or [] for match in rule.get("match") or []
    ]
    for uri in matches:
        bare = uri.get("prefix", "").removesuffix("/")
        if bare and path.startswith(bare):
            return f"the prefix {bare} takes whole segments of a path alone: {bare} and {bare}/…"
        if uri.get("exact", path) != path and uri["exact"].rstrip("/") == path.rstrip("/"):
            return f"{uri['exact']} is exact, and a slash at the end counts"
        with suppress(re.error):
            if "regex" in uri and re.match(uri["regex"], path):
                return f"the regular expression {uri['regex']} must take the whole path, not its beginning"
    return ""


def _key(one: Mapping) -> str:
    return f"{one['metadata']['namespace']}/{one['metadata']['name']}"


def _gateway(one: Mapping) -> dict[str, Any]:
    servers = [
        {
            "port": {"number": listener["port"], "protocol": listener["protocol"]},
            "hosts": [listener.get("hostname") or "*"],
            "tls": {"credentialName": _secret(listener)},
            "problem": _listener_problem(one, listener),
        }
        for listener in one["spec"].get("listeners") or []
    ]
    return {
        "metadata": one["metadata"],
        "spec": {"selector": {GATEWAY_NAME: one["metadata"]["name"]}, "servers": servers},
    }


def _listener_problem(one: Mapping, listener: Mapping) -> str:
    """Return why a listener is not in force, as reason: message; "" if it is, or its status is not known."""
    status = one.get("status") or {}
    seen = [each.get("observedGeneration") for each in status.get("conditions") or []]
    newest = one["metadata"].get("generation")
    if newest and seen and newest not in seen:
        return f"{NO_CONTROLLER}: no controller took the class {one['spec'].get('gatewayClassName')}"
    own: Mapping = next((each for each in status.get("listeners") or [] if each["name"] == listener.get("name")), {})
    conditions = own.get("conditions") or []
    bad = [each for each in conditions if each["type"] in WANTED and each.get("status") != WANTED[each["type"]]]
    return _said(sorted(bad, key=lambda each: each["type"] in FOLLOWS))


def _said(conditions: Sequence[Mapping]) -> str:
    """Return the first condition as reason: message; "" if there is none."""
    return next((f"{each.get('reason', '')}: {each.get('message', '')}" for each in conditions), "")


def _secret(listener: Mapping) -> str:
    references = (listener.get("tls") or {}).get("certificateRefs") or [{}]
    return references[0].get("name", "")


def _virtual_service(one: Mapping) -> dict[str, Any]:
    spec, home = one["spec"], one["metadata"]["namespace"]
    parents = [f"{parent.get('namespace', home)}/{parent['name']}" for parent in spec.get("parentRefs") or []]
    single = [(rule, match) for rule in spec.get("rules") or [] for match in rule.get("matches") or [{}]]
    single.sort(key=lambda pair: precedence(pair[1]))
    rules = [made for rule, match in single for made in _rules(rule, match)]
    return {
        "metadata": one["metadata"],
        "problem": _problem(one),
        "original": one,
        "spec": {"hosts": spec.get("hostnames") or ["*"], "gateways": parents, "http": rules},
    }


def _problem(one: Mapping) -> str:
    """Return why a route is not in force at a Gateway, as reason: message; "" if it is, or its status is not known."""
    parents = (one.get("status") or {}).get("parents") or []
    conditions = [each for parent in parents for each in parent.get("conditions") or []]
    return _said([each for each in conditions if each.get("status") == "False"])


def precedence(match: Mapping) -> tuple[int, int, bool, int, int]:
    """Return what orders the matches of HTTPRoutes as istiod does: the first one that fits a request counts.

    Source: istio/istio 1.31, pilot/pkg/config/kube/gateway/conversion.go, sortHTTPRoutes.
    """
    kind, value = _path(match)
    bare = value.removesuffix("/") or "/" if kind == "PathPrefix" else value
    headers, queries = match.get("headers") or [], match.get("queryParams") or []
    return list(TYPES).index(kind), -len(bare), "method" not in match, -len(headers), -len(queries)


def _path(match: Mapping) -> tuple[str, str]:
    path = match.get("path") or {}
    return path.get("type", "PathPrefix"), path.get("value", "/")


def _rules(rule: Mapping, match: Mapping) -> list[dict[str, Any]]:
    """Return the routes of one match. A PathPrefix ends where a segment ends, so it is a path and a prefix of Istio."""
    kind, value = _path(match)
    bare = value.removesuffix("/")
    uris = [{TYPES[kind]: value}]
    if kind == "PathPrefix":
        uris = [{"exact": bare}, {"prefix": f"{bare}/"}] if bare else [{"prefix": "/"}]
    return [_rule(rule, {"uri": uri, **_match(match)}) for uri in uris]


def _rule(rule: Mapping, match: Mapping) -> dict[str, Any]:
    made: dict[str, Any] = {"match": [match]}
    for each in rule.get("filters") or []:
        if rewrite := each.get("urlRewrite"):
            made["rewrite"] = _rewrite(rewrite, match["uri"])
        if "requestRedirect" in each:
            made["redirect"] = each["requestRedirect"]
    made["headers"] = _headers(rule)
    made["route"] = [
        {
            "destination": {"host": _host(back), "port": {"number": back["port"]} if "port" in back else {}},
            "headers": _headers(back),
        }
        for back in rule.get("backendRefs") or []
        if back.get("weight", 1)
    ]
    if not made["route"] and "redirect" not in made:
        made["directResponse"] = {"status": 500}
    return made


def _headers(part: Mapping) -> dict[str, Any]:
    """Return what the filters of a rule, or of a backend, change about the request's headers."""
    changes: dict[str, Any] = {"remove": [], "set": {}, "add": {}}
    for modified in [each.get("requestHeaderModifier") or {} for each in part.get("filters") or []]:
        changes["remove"] += modified.get("remove") or []
        for key in ("set", "add"):
            changes[key] |= {header["name"]: header["value"] for header in modified.get(key) or []}
    return {"request": changes}


def _host(back: Mapping) -> str:
    return f"{back['name']}.{back['namespace']}" if "namespace" in back else back["name"]


def _match(match: Mapping) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "method" in match:
        made["method"] = {"exact": match["method"]}
    if headers := match.get("headers"):
        made["headers"] = {one["name"]: {TYPES[one.get("type", "Exact")]: one["value"]} for one in headers}
    return made


def _rewrite(rewrite: Mapping, uri: Mapping) -> dict[str, Any]:
    path = rewrite.get("path") or {}
    made: dict[str, Any] = {"authority": rewrite["hostname"]} if rewrite.get("hostname") else {}
    if "replaceFullPath" in path:
        made["uriRegexRewrite"] = {"match": "^.*$", "rewrite": path["replaceFullPath"]}
    elif "replacePrefixMatch" in path:
        bare = path["replacePrefixMatch"].removesuffix("/")  # so does istiod, and joins the rest of / without a slash
        made["uri"] = f"{bare}/" if uri.get("prefix", "/") != "/" else bare or "/"
    return made
