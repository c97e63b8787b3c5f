"""What a gateway does with a request, by Istio's own kinds or by the Gateway API's; lib.istio's evaluator decides.

`reached` reads listeners, the namespaces that they admit, routes and policies. Ingresses: `nginx`, by nginx's rules.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from lib.istio import evaluator, gateway_api, matching, policies, routes
from lib.istio.mesh import Mesh, Provider

PREFIX = "nginx.ingress.kubernetes.io/"


@dataclass(frozen=True)
class Asked:
    """A request to a gateway's Service."""

    port: int = 443
    host: str = "a.example"
    path: str = "/"
    method: str = "GET"
    headers: dict = field(default_factory=dict)
    claims: dict = field(default_factory=dict)


def reached(objects, gateway, pods, call, asked, providers=()):
    """Return where a request ends: "404", "redirect", "refused", or its Service, port, path, host and headers.

    Args:
        objects: All objects, of either form.
        gateway: The namespace and the name of the Gateway whose pods get the request.
        pods: The namespace and the labels of its pods.
        call: What policies see besides the request.
        asked: The request.
        providers: The mesh's authorizers; "asks" comes first in the result if a request goes to one of them.
    """
    (own,) = [one for one in objects if one["kind"] == "Gateway" and place(one) == gateway]
    asked = replace(asked, path=matching.normalized(asked.path, _normalization(objects, own)))
    server = _server(own, asked)
    if server is None:
        return "404"
    admitted = [one for one in objects if _attached(one, own, server)]
    form = gateway_api.virtual_services(admitted) if "listeners" in own["spec"] else admitted
    named = [{"metadata": own["metadata"]}]
    call = replace(call, host=asked.host, method=asked.method, path=asked.path, headers=asked.headers,
                   claims=asked.claims, complete=True)  # fmt: skip
    applied = policies.applying(objects, policies.RULES, *pods)
    verdict = evaluator.decide(applied, call, Mesh(providers={name: Provider(f"{name}.example") for name in providers}))
    if verdict.allowed is False:
        return "refused"
    asks = ("asks",) if verdict.allowed is None else ()
    if (server.get("tls") or {}).get("httpsRedirect"):
        return (*asks, "redirect")
    for one in routes.routes(form, named, asked.host):
        if found := routes.route(one, asked.path, asked.method, asked.headers):
            return (*asks, *_end(found, asked))
    return (*asks, "404")


def _normalization(objects, own):
    """What the gateway does with a path: Istio's default, or what an EnvoyFilter for it says."""
    filters = [one for one in objects if one["kind"] == "EnvoyFilter" and place(one)[0] == place(own)[0]]
    mine = [one for one in filters if policies.applies(one, place(own)[0], {policies.GATEWAY_NAME: place(own)[1]})]
    return "DECODE_AND_MERGE_SLASHES" if "UNESCAPE_AND_FORWARD" in str(mine) else "BASE"


def _end(found, asked):
    if found.answer:
        return ("redirect",) if found.answer == "redirect" else ("refused by the route",)
    name, _, space = found.destination.removesuffix(".svc.cluster.local").partition(".")
    changed = tuple(sorted(found.removed)), tuple(sorted(found.headers.items()))
    return (f"{space or found.namespace}/{name}", found.port, found.path or asked.path, found.host, changed)


def place(one):
    return one["metadata"]["namespace"], one["metadata"]["name"]


def _server(own, asked):
    """The server or listener for the request: the most exact host of its port."""
    if "listeners" in own["spec"]:
        found = [(one.get("hostname", "*"), one) for one in own["spec"]["listeners"] if one["port"] == asked.port]
    else:
        servers = [one for one in own["spec"]["servers"] if one["port"]["number"] == asked.port]
        found = [(host.rpartition("/")[2], {**one, "space": host.rpartition("/")[0]}) for one in servers
                 for host in one["hosts"]]  # fmt: skip
    hit = routes._hit([host for host, _ in found], asked.host)
    return dict(found)[hit] if hit else None


def _attached(one, own, server):
    home, (space, name) = one["metadata"]["namespace"], place(own)
    if one["kind"] == "VirtualService":
        mine = {f"{space}/{name}", *([name] if home == space else [])} & set(one["spec"].get("gateways", []))
        return bool(mine) and server["space"] in ("", "*", home, *(["."] if home == space else []))
    if one["kind"] != "HTTPRoute" or "name" not in server:
        return False
    allowed = server["allowedRoutes"]["namespaces"]
    labels = {"kubernetes.io/metadata.name": home}
    admits = {"All": True, "Same": home == space}.get(
        allowed["from"], allowed.get("selector", {}).get("matchLabels") == labels
    )
    parents = [(ref.get("namespace", home), ref["name"], ref.get("sectionName", server["name"]))
               for ref in one["spec"]["parentRefs"]]  # fmt: skip
    return admits and (space, name, server["name"]) in parents


def nginx(ingresses, asked):
    """What ingress-nginx does: "404", "redirect", or the Service and path, after "asks" if it asks auth-url first.

    nginx decodes, resolves and merges a path to choose; without a rewrite it sends on the path as it came, which this
    shows in the form that nginx compared.
    """
    asked = replace(asked, path=_resolved(asked.path))
    ways, tls = [], set()
    for one in ingresses:
        notes = {key.removeprefix(PREFIX): value for key, value in one["metadata"]["annotations"].items()}
        tls |= {host for entry in one["spec"].get("tls", []) for host in entry["hosts"]}
        for rule in one["spec"]["rules"]:
            ways += [(rule["host"], path, notes) for path in rule["http"]["paths"]]
    ways = [way for way in ways if way[0] == asked.host]
    if asked.port == 443 and asked.host not in tls:
        return "404"
    regexes = any({"rewrite-target", "use-regex"} & way[2].keys() for way in ways)
    hits = [way for way in ways if _takes(way[1], asked.path, regexes)]
    if not hits:
        return "404"
    _, path, notes = max(hits, key=lambda way: (not regexes and way[1]["pathType"] == "Exact", len(way[1]["path"])))
    if asked.port == 80 and asked.host in tls and notes.get("ssl-redirect") != "false":
        return ("redirect",)
    asks = ("asks",) if "auth-url" in notes else ()
    service = path["backend"]["service"]
    return (*asks, service["name"], service["port"]["number"], _rewritten(path["path"], notes, asked.path))


def _takes(path, asked, regexes):
    stated = path["path"]
    if regexes:
        return re.match(f"^{stated}", asked, re.IGNORECASE) is not None
    if path["pathType"] == "Exact":
        return asked == stated
    if path["pathType"] == "ImplementationSpecific":  # updateServerLocations changes only Prefix
        return asked.startswith(stated)
    return asked == stated or asked.startswith(stated.rstrip("/") + "/")


def _resolved(path):
    bare = re.sub("/{2,}", "/", unquote(path))
    slash = "/" if bare != "/" and bare.endswith(("/", "/.", "/..")) else ""
    return re.sub("/{2,}", "/", posixpath.normpath(bare) + slash)


def _rewritten(stated, notes, asked):
    target = notes.get("rewrite-target")
    if not target:
        return asked
    hit = re.match(f"^{stated}", asked, re.IGNORECASE)
    return re.sub(r"\$(\d)", lambda one: hit[int(one[1])], target)
