"""Both forms of a gateway give the same answer to each request, or the new one refuses and its output says why.

lib.istio's evaluator answers for both forms; nginx's rules for Ingresses are tests/support/two_forms.py.
"""

import random
import re
from itertools import product, starmap

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from lib.errors import LegacyError
from lib.gateway_api import ingress, translate
from lib.istio import evaluator, policies
from lib.istio.attributes import Call
from tests.support.two_forms import Asked, nginx, reached

EDGE, POD = "edge", {"istio": "edge", "app": "gw"}
NEW = {**POD, "gateway.networking.k8s.io/gateway-name": "front"}
OLD_ACCOUNT, NEW_ACCOUNT = "cluster.local/ns/edge/sa/gate", "cluster.local/ns/edge/sa/front-istio"
HOSTS = ("a.example", "b.example", "*.example", "*")
PATHS = ("/", "/api", "/api/", "/api/x", "/apis", "/admin", "/v1/users")
SETTINGS = settings(max_examples=250, suppress_health_check=list(HealthCheck))


def of(kind, name, namespace, spec, api):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def istio(kind, name, namespace, spec):
    return of(kind, name, namespace, spec, "networking.istio.io/v1")


def secure(name, spec, namespace=EDGE):
    return of("AuthorizationPolicy", name, namespace, spec, "security.istio.io/v1")


PODS = [
    of("Deployment", "gw", EDGE, {"template": {"metadata": {"labels": POD}, "spec": {"serviceAccountName": "gate"}}},
       "apps/v1"),
    of("Service", "gw", EDGE, {"type": "LoadBalancer", "selector": POD,
       "ports": [{"port": 443, "targetPort": 8443}, {"port": 80, "targetPort": 8080}]}, "v1"),
]  # fmt: skip


def sampled(*values):
    return st.sampled_from(values)


def some(**optional):
    return st.fixed_dictionaries({}, optional=optional)


def lists(of, most=2, least=1):
    return st.lists(of, min_size=least, max_size=most)


URIS = st.builds(lambda kind, path: {kind: path}, sampled("exact", "prefix", "prefix"), sampled(*PATHS)) | sampled(
    {"regex": "/v[0-9]/.*"}, {"regex": "/api(/.*)?"})  # fmt: skip
MATCHES = some(uri=URIS, method=sampled({"exact": "GET"}, {"exact": "POST"}),
               headers=sampled({"x-v": {"exact": "1"}}, {"x-v": {"prefix": "1"}}))  # fmt: skip
TO = st.builds(lambda name: {"route": [{"destination": {"host": name, "port": {"number": 80}}}]},
               sampled("web", "api.other.svc.cluster.local"))  # fmt: skip
ENDS = TO | TO | sampled({"redirect": {"uri": "/login"}}, {"directResponse": {"status": 403}})
RULES = st.builds(lambda end, match, more: {**end, **match, **({} if "directResponse" in end else more)}, ENDS,
                  some(match=lists(MATCHES)),
                  some(rewrite=sampled({"uri": "/"}, {"uri": "/new"}, {"uri": "/new/"}, {"authority": "web"}),
                       headers=sampled({"request": {"set": {"x-a": "1"}, "remove": ["x-v"]}})))  # fmt: skip
VIRTUALS = st.builds(lambda home, hosts, http: istio("VirtualService", "v", home, {
    "hosts": hosts, "gateways": ["front" if home == EDGE else f"{EDGE}/front"], "http": http}),
    sampled(EDGE, "foo"), st.lists(sampled(*HOSTS), min_size=1, max_size=2, unique=True), lists(RULES, 3))  # fmt: skip
SECURE = {
    "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
    "tls": {"mode": "SIMPLE", "credentialName": "c"},
}
PLAIN = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}}
NAMED = st.lists(sampled("a.example", "./a.example", "foo/b.example", "*", "*.example"), min_size=1, max_size=2,
                 unique_by=lambda one: one.rpartition("/")[2])  # fmt: skip
GATEWAYS = st.builds(lambda one, other, redirect: istio("Gateway", "front", EDGE, {
    "selector": {"istio": "edge"}, "servers": [{**SECURE, "hosts": one},
    {**PLAIN, "hosts": other, **({"tls": {"httpsRedirect": True}} if redirect else {})}]}),
    NAMED, NAMED, st.booleans())  # fmt: skip
SOURCES = some(requestPrincipals=sampled(["*"], ["http://k/*"]), principals=sampled([OLD_ACCOUNT], ["*"]),
               notPrincipals=sampled([OLD_ACCOUNT]))  # fmt: skip
OPERATIONS = some(paths=sampled(["/api*"], ["/admin"]), methods=sampled(["GET"]), ports=sampled(["8443"], ["8080"]),
                  notPorts=sampled(["8443"]))  # fmt: skip
WHEN = sampled([], [{"key": "request.auth.claims[role]", "values": ["x"]}],
               [{"key": "source.principal", "notValues": [OLD_ACCOUNT]}])  # fmt: skip
GRANTS = st.builds(lambda source, to, when: {"from": [{"source": source}] if source else [],
                   "to": [{"operation": to}] if to else [], "when": when}, SOURCES, OPERATIONS, WHEN)  # fmt: skip
SELECTORS = sampled({"istio": "edge"}, {"app": "gw"}, {"istio": "edge", "app": "gw"}, {"app": "web"}, {})
POLICIES = st.builds(lambda labels, action, rules: {
    **({"selector": {"matchLabels": labels}} if labels else {}), "action": action, "rules": rules},
    SELECTORS, sampled("ALLOW", "DENY"), lists(GRANTS))  # fmt: skip
ASKED = (*PATHS, "/api/v1", "/api/v1/y", "/API", "/ADMIN/x")
REQUESTS = [Asked(*one) for one in product(
    (443, 80), ("a.example", "b.example", "c.example", "x.org"), ASKED,
    ("GET", "POST"), ({}, {"x-v": "1"}, {"x-v": "12"}),
    ({}, {"iss": "http://k", "sub": "u", "role": "x"}))]  # fmt: skip
SPELLED = (
    "/adminx",
    "//admin",
    "/api/..%2Fadmin",
    "/api/%2e%2e/admin",
    "/%61dmin",
    "/api%2Fv1/../../admin",
    "/admin%2F",
)
SEEDS = st.integers(0, 2**32)
STRICTER = ("now ends at a segment", "without case")

# A VirtualService of a host and of *, beside one of *.example: its host comes first, the rest of it last
WIDE = istio("Gateway", "front", EDGE, {"selector": {"istio": "edge"}, "servers": [{**SECURE, "hosts": ["*"]}]})
BESIDE = [
    istio("VirtualService", "v", home, {"hosts": hosts, "gateways": [f"{EDGE}/front"], "http": [
        {"route": [{"destination": {"host": "web", "port": {"number": 80}}}]}]})
    for home, hosts in ((EDGE, ["a.example", "*"]), ("foo", ["b.example", "*.example"]))
]  # fmt: skip

TWICE = [istio("VirtualService", "v", EDGE, {"hosts": ["a.example"], "gateways": ["front"], "http": [
    {"match": [{}, {"uri": {"exact": "/api/"}}], "rewrite": {"uri": "/"},
     "route": [{"destination": {"host": "web", "port": {"number": 80}}}]}]})]  # fmt: skip


@example(WIDE, BESIDE, [], 0)
@example(WIDE, TWICE, [], 0)
@given(
    GATEWAYS,
    st.lists(VIRTUALS, max_size=2, unique_by=lambda one: one["metadata"]["namespace"]),
    st.lists(POLICIES, max_size=2),
    SEEDS,
)
@SETTINGS
def test_both_forms_answer_alike_at_the_gateway_and_at_the_workload(gateway, virtuals, rules, seed):
    before = [gateway, *virtuals, *PODS, *(secure(f"p{place}", one) for place, one in enumerate(rules))]
    try:
        made = translate(before)
    except LegacyError as error:
        assert re.fullmatch(r".+\. [A-Z`].+\.", str(error)), error  # what is wrong, then what to do
        event("refused")
        return
    event("translated")
    after = [one.manifest for one in made if one.manifest]
    names = {one["metadata"]["name"] for one in _rules(after)}
    kept = [one for one in _rules(before) if one["metadata"]["name"] not in names]
    final = [*after, *kept]
    later = [*after, *(one for one in kept if "edge" not in str(one["spec"].get("selector")))]
    notes = " ".join(note for one in made for note in one.warnings)
    inside = [policies.applying(found, policies.RULES, EDGE, {"app": "web"}) for found in (before, final)]
    for request in random.Random(seed).sample(REQUESTS, 60):
        port = {443: "8443", 80: "8080"}[request.port]
        then = reached(before, (EDGE, "front"), (EDGE, POD), Call(port=port), request)
        now = reached(final, (EDGE, "front"), (EDGE, NEW), Call(port=str(request.port)), request)
        assert now == reached(later, (EDGE, "front"), (EDGE, NEW), Call(port=str(request.port)), request)
        assert now == then or (now in ("404", ("404",)) and any(one in notes for one in STRICTER)), request
        calls = [Call(principal=one, path=request.path, method=request.method, claims=request.claims, port="1")
                 for one in (OLD_ACCOUNT, NEW_ACCOUNT)]  # fmt: skip
        assert evaluator.decide(inside[0], calls[0]).allowed == evaluator.decide(inside[1], calls[1]).allowed


def test_a_translation_without_the_gateways_policy_would_be_seen():
    gateway = istio("Gateway", "front", EDGE, {"selector": {"istio": "edge"}, "servers": [{**SECURE, "hosts": ["*"]}]})
    denies = {"selector": {"matchLabels": {"istio": "edge"}}, "action": "DENY", "rules": [{}]}
    after = [one.manifest for one in translate([gateway, *PODS, secure("p", denies)]) if one.manifest]
    found = [reached(objects, (EDGE, "front"), (EDGE, NEW), Call(), Asked()) for objects in (after, after[:-1])]
    assert found == ["refused", ("404",)]


def _rules(objects):
    return [one for one in objects if one["kind"] == "AuthorizationPolicy"]


ANNOTATIONS = some(**{
    "auth-url": sampled("http://auth.sso.svc.cluster.local:4180/oauth2/auth"),
    "auth-response-headers": sampled("X-User"),
    "auth-signin": sampled("https://a.example/oauth2/start"), "ssl-redirect": sampled("false", "true"),
    "rewrite-target": sampled("/$2", "/", "/new/$2")})  # fmt: skip
WAYS = st.builds(lambda path, kind, name: {"path": path, "pathType": kind, "backend": {"service": {
    "name": name, "port": {"number": 80}}}}, sampled("/", "/api", "/api/v1", "/admin", "/api(/|$)(.*)"),
    sampled("Prefix", "Prefix", "Exact", "ImplementationSpecific"), sampled("web", "api"))  # fmt: skip
SPECS = st.builds(lambda host, paths, tls: {"rules": [{"host": host, "http": {"paths": paths}}],
                  **({"tls": [{"hosts": [host], "secretName": "c"}]} if tls else {})},
                  sampled("a.example", "b.example"), lists(WAYS), st.booleans())  # fmt: skip


ALIKE = st.builds(lambda path, kind: {"rules": [{"host": "a.example", "http": {"paths": [
    {"path": path, "pathType": kind, "backend": {"service": {"name": f"web{len(path)}", "port": {"number": 80}}}}]}}]},
    sampled("/", "/", "/api", "/admin"), sampled("Prefix", "Prefix", "Exact", "ImplementationSpecific"))  # fmt: skip
NOTES = sampled({}, {}, {"auth-url": "http://auth.sso.svc.cluster.local:4180/auth"}, {"rewrite-target": "/"})


@st.composite
def ingresses(draw):
    made = []
    drawn = lists(st.tuples(SPECS, ANNOTATIONS), 3) | lists(st.tuples(ALIKE, NOTES), 3, 2)
    for number, (spec, notes) in enumerate(draw(drawn)):
        one = of("Ingress", f"i{number}", "shop", spec, "networking.k8s.io/v1")
        one["metadata"]["annotations"] = {f"nginx.ingress.kubernetes.io/{key}": value for key, value in notes.items()}
        made.append(one)
    return made


@given(ingresses())
@settings(SETTINGS, max_examples=500)
def test_ingresses_ask_the_authorizer_for_the_same_requests(found):
    try:
        made = translate(found)
    except LegacyError as error:
        assert re.fullmatch(r".+\. [A-Z].+\.", str(error)), error
        event("refused")
        return
    event("translated")
    after = [one.manifest for one in made if one.manifest]
    (own,) = [one for one in after if one["kind"] == "Gateway"]
    place, labels = ("shop", ingress.NAME), {"gateway.networking.k8s.io/gateway-name": own["metadata"]["name"]}
    notes = " ".join(note for one in made for note in one.warnings)
    for request in starmap(Asked, product((443, 80), HOSTS[:2], (*ASKED, *SPELLED))):
        then = nginx(found, request)
        now = reached(after, place, ("shop", labels), Call(port=str(request.port)), request, ("auth-sso",))
        assert "asks" in now or "404" in now or "redirect" in now or "asks" not in then, (request, then)
        if "404" in now:
            assert then == "404" or any(one in notes for one in STRICTER), (request, then)
        elif "redirect" in now:
            assert then in ("404", ("redirect",)), (request, then)
        else:
            short = tuple(one for one in now if one == "asks")
            service, port, path = now[len(short) : len(short) + 3]
            got = (*short, service.removeprefix("shop/"), port, path)
            asks = ("asks" in got) == ("asks" in then)
            assert got == then or ("without case" in notes and asks), (request, then, got)
