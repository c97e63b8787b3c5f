"""A drawing of the live cluster: its parts, what a step adds, and which caller may send requests by the policies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from IPython.display import HTML, display

from lib.diagnose import bypasses
from lib.errors import MissingStep
from lib.istio import evaluator, gateway_api, installation, mesh, policies, proxy
from lib.kubernetes.cluster import Cluster
from lib.kubernetes.status import public_address
from lib.params import ROOT, Params
from lib.render import rendered
from lib.run import Run
from lib.steps import endpoints

NOTEBOOKS = ROOT / "notebooks"
NETWORKING = "networking.istio.io/v1"
SHOWN = 30  # characters of an address that a box holds
USER = "browser, curl, program"
APPS = ("httpbin", "httpbin-figure-1")
CALLERS = ("user", "sleep", "visitor", "outsider")

# What each step adds, as names of `facts`.
ADDED = {
    "01": ("cluster",),
    "02": ("istiod", "gateway"),
    "03": ("keycloak", "postgres"),
    "04": ("realm",),
    "05": ("foo",),
    "06": ("httpbin", "sleep", "visitor", "outsider"),
    "07": ("route",),
    "08": ("mtls",),
    "09": ("mtls",),
    "10": ("httpbin",),
    "11": ("user",),
    "12": ("httpbin-figure-1",),
    "13": ("user",),
}
# What each step cannot do without; the needs of those parts follow from their own steps.
NEEDED = {
    "02": ("cluster",),
    "03": ("cluster",),
    "04": ("keycloak",),
    "05": ("istiod",),
    "06": ("foo",),
    "07": ("gateway", "httpbin"),
    "08": ("httpbin", "outsider"),
    "09": ("realm", "sleep", "mtls"),
    "10": ("realm", "outsider", "route", "mtls"),
    "11": ("realm", "sleep", "route", "mtls"),
    "12": ("realm", "sleep", "route", "mtls"),
    "13": ("realm", "mtls"),
    "14": ("httpbin-figure-1", "realm", "mtls"),
    "15": ("realm", "sleep", "route", "mtls"),
}
NAMES = {
    "cluster": "the cluster",
    "realm": "the realm",
    "foo": "the namespace",
    "mtls": "mutual TLS",
    "route": "the way in",
    "user": "everybody who asks",
}


def show(run: Run) -> HTML:
    """Return the drawing for a notebook, with what its step adds marked; the parts go into the record too.

    If a part that the step needs is missing, the drawing is shown first; then MissingStep names the step to run.
    """
    found, step = facts(_cluster(run), run.params), run.step[:2]
    run.fact("standing", found)
    drawn = HTML(drawing(found, step))
    if sentence := missing(found["parts"], step):
        display(drawn)
        raise MissingStep(sentence)
    return drawn


def missing(parts: Mapping[str, str], step: str) -> str:
    """Return which step must come first, and for want of what; "" where `step` (two digits) has all that it needs."""
    lacking = {_maker(name): name for name in reversed(_needed(step)) if name not in parts}
    if not lacking:
        return ""
    maker, name = min(lacking.items())
    (path,) = NOTEBOOKS.glob(f"{maker}-*.ipynb")
    return f"step {step}: expected {NAMES.get(name, name)}, found none; run {path.stem} first."


def _needed(step: str) -> list[str]:
    """Return what a step needs, and what those steps need that make it."""
    own = NEEDED.get(step, ())
    return [*own, *(name for one in own for name in _needed(_maker(one)))]


def _maker(part: str) -> str:
    return min(number for number, names in ADDED.items() if part in names)


def facts(cluster: Cluster | None, params: Params) -> dict[str, dict]:
    """Return `parts`, `may` and `bypasses`.

    `parts` are the existing parts, each with a short text; `may` is, by app and caller, what it takes to get in;
    `bypasses` are the ways around the policies (lib.diagnose.bypasses). Without a cluster there is only the user.
    A part is listed if it exists, ready or not.
    """
    if cluster is None:
        return {"parts": {"user": USER}, "may": {}}
    home = params.namespace
    pods = [one for one in cluster.items("v1", "Pod") if "deletionTimestamp" not in one["metadata"]]
    found = [one for kind in policies.KINDS for one in cluster.items(policies.API, kind)]
    ways = _routes(cluster, home, params.gateway_api)
    parts = {"user": USER, "cluster": f"Kubernetes {cluster.version()}"}
    services = cluster.items("v1", "Service")
    parts |= _services(services, pods, params.gateway_api) | _realm(cluster, params)
    namespace = cluster.find("v1", "Namespace", home)
    if namespace:
        injected = namespace["metadata"].get("labels", {}).get("istio-injection") == "enabled"
        parts["foo"] = "pods made here get a sidecar" if injected else "pods made here get no sidecar"
    parts |= {name: _pod(pod, found) for name in (*APPS, *CALLERS[1:]) if (pod := _named(pods, name, home))}
    if ways:
        parts["route"] = f"leads to {', '.join(sorted(ways))}"
    if installation.ROOT_NAMESPACE in {one["metadata"]["namespace"] for one in found if one["kind"] == policies.PEERS}:
        parts["mtls"] = policies.mode(found, home, {})[0]
    settings = mesh.read(cluster) if "istiod" in parts else mesh.Mesh()
    may = {app: _may(app, pods, found, ways, params, settings) for app in APPS if app in parts}
    expected = {f"{one.namespace}/{one.name}" for one in _gateways(params.gateway_api).values()}
    return {"parts": parts, "may": may, "bypasses": bypasses.inventory(pods, found, services, expected, settings)}


def drawing(found: Mapping[str, Mapping], step: str = "") -> str:
    """Return the parts as SVG with a table of who may ask, what `step` (two digits) adds marked in words."""
    parts, may = found["parts"], found["may"]
    added = ADDED.get(step, ())
    callers = [name for name in CALLERS if any(name in row for row in may.values())]
    return rendered(
        "overview.svg.j2",
        parts={name: _short(text) for name, text in parts.items()},
        added=added,
        step=step,
        may=may,
        callers=callers,
        alt=alt(parts, added, step),
    )


def alt(parts: Mapping[str, str], added: Iterable[str] = (), step: str = "") -> str:
    """Return the drawing in words, for screen readers."""
    there = "; ".join(f"{NAMES.get(name, name)}: {text}" for name, text in parts.items())
    names = ", ".join(NAMES.get(name, name) for name in added)
    return f"In the cluster now: {there}." + (f" Step {step} is about: {names}." if names else "")


def _cluster(run: Run) -> Cluster | None:
    """Before step 01 there is none, and after `make down` one that does not answer."""
    try:
        return run.cluster if run.cluster.ready() else None
    except Exception:  # any error: the drawing then shows no cluster; a check would say why
        return None


def _services(services: list[dict], pods: list[dict], api: str) -> dict[str, str]:
    parts = {}
    places = {"istiod": ("istiod", installation.ROOT_NAMESPACE), "postgres": ("postgres", endpoints.KEYCLOAK)}
    for name, (app, home) in places.items():
        if _named(pods, app, home):
            parts[name] = "gives Envoy policies and keys" if name == "istiod" else "keeps what Keycloak knows"
    known = {policies.name(one): one for one in services}
    for name, service in _gateways(api).items():
        if entry := known.get(f"{service.namespace}/{service.name}"):
            parts[name] = public_address(entry) or "no address yet"
    return parts


def _gateways(api: str) -> dict[str, installation.GatewayService]:
    return {"gateway": installation.INGRESS[api], "keycloak": installation.KEYCLOAK_GATEWAY[api]}


def _realm(cluster: Cluster, params: Params) -> dict[str, str]:
    known = cluster.find("v1", "Secret", f"client-{params.realm}-{params.client_id}", endpoints.KEYCLOAK)
    return {"realm": f"{params.realm}, client {params.client_id}"} if known else {}


def _routes(cluster: Cluster, home: str, api: str) -> set[str]:
    if api == installation.GATEWAY_API:
        found = gateway_api.virtual_services(cluster.items(gateway_api.API, "HTTPRoute", home))
    elif cluster.items(NETWORKING, "Gateway", home):
        found = cluster.items(NETWORKING, "VirtualService", home)
    else:
        return set()
    ways = [way for one in found for http in one["spec"].get("http", []) for way in http.get("route", [])]
    return {way["destination"]["host"].split(".")[0] for way in ways} & set(APPS)


def _named(pods: list[dict], app: str, home: str) -> dict | None:
    homes = (home, installation.ROOT_NAMESPACE)  # where outsider is
    fits = lambda one: _labels(one).get("app") == app and one["metadata"]["namespace"] in homes  # noqa: E731
    return next((one for one in pods if fits(one)), None)


def _labels(pod: dict) -> dict[str, str]:
    return pod["metadata"].get("labels", {})


def _pod(pod: dict, found: list[dict]) -> str:
    if not proxy.has_proxy(pod):
        return "no sidecar"
    rules = {
        policies.REQUESTS: "tokens checked",
        policies.RULES: "rules",
    }
    home, labels = pod["metadata"]["namespace"], _labels(pod)
    words = [text for kind, text in rules.items() if policies.applying(found, kind, home, labels)]
    return ", ".join([f"sidecar, {policies.mode(found, home, labels)[0]}", *words])


def _may(
    app: str, pods: list[dict], found: list[dict], ways: set[str], params: Params, settings: mesh.Mesh
) -> dict[str, str]:
    """Return for each caller what it takes to get an answer of `app`, as the policies are now."""
    pod = _named(pods, app, params.namespace)
    if pod is None:
        return {}
    labels, home = _labels(pod), pod["metadata"]["namespace"]
    rules = policies.applying(found, policies.RULES, home, labels, settings)
    requests = policies.applying(found, policies.REQUESTS, home, labels, settings)
    issuer = next((rule["issuer"] for one in requests for rule in one["spec"].get("jwtRules", [])), "")
    strict = proxy.has_proxy(pod) and policies.mode(found, home, labels, mesh=settings)[0] == "STRICT"
    entrance = next((one for one in pods if _labels(one).get("istio") == "ingressgateway"), None)
    words = {}
    for name in CALLERS:
        one = entrance if name == "user" else _named(pods, name, params.namespace)
        if one is None or (name == "user" and app not in ways):
            words[name] = "no way in" if name == "user" else "not there"
            continue
        words[name] = _takes(one, rules, issuer, strict, settings)
    return words


def _takes(caller: dict, rules: list[Mapping], issuer: str, strict: bool, settings: mesh.Mesh) -> str:
    """Return what a caller's request must have: nothing, a token, or that nothing helps."""
    known = proxy.has_proxy(caller)
    if strict and not known:
        return "nothing helps: plain text"
    home, account = caller["metadata"]["namespace"], caller["spec"].get("serviceAccountName", "default")
    principal = f"{settings.trust_domain}/ns/{home}/sa/{account}" if known else ""
    somebody = {"iss": issuer, "sub": "somebody"}
    bare = evaluator.decide(rules, evaluator.Call(principal=principal), settings)
    token = evaluator.decide(rules, evaluator.Call(principal=principal, claims=somebody), settings)
    if bare.allowed:
        return "no token needed" if issuer else "nothing at all"
    if issuer and token.allowed:
        return "a token"
    unknown = bare.unknown or token.unknown
    return f"depends on {unknown[0]}" if unknown else "nothing helps"


def _short(text: str) -> str:
    """An address of a load balancer on AWS is longer than a box; what has a blank in it is no address."""
    return text if " " in text or len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
