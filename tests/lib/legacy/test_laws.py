"""A translation is never weaker than the old policies, and stricter only if its output reports it.

Two evaluators answer random requests on random policies: legacy_then as Istio 1.4, and legacy_now as Istio today.
"""

import random
import re
from itertools import product

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from lib.errors import LegacyError
from lib.legacy import ASSUMED, authn, rbac, subjects, translate
from lib.legacy.services import Services
from tests.support import legacy_now, legacy_then
from tests.support.legacy_then import ROOT, Request

WEB = [
    {"name": "http", "port": 80, "targetPort": 8080},
    {"name": "http-admin", "port": 81, "targetPort": 8081},
    {"name": "tcp-db", "port": 90, "targetPort": 9090},
]
API = [{"name": "http", "port": 80, "targetPort": 8000}]
WORLD = {("foo", "web"): WEB, ("foo", "api"): API, ("bar", "web"): WEB[:1]}
SHARED = [{"name": "http", "port": 88, "targetPort": 8088}]  # of a Service over the pods of web
SERVICES = [
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": home},
     "spec": {"selector": {"app": name}, "ports": ports}} for (home, name), ports in WORLD.items()
]  # fmt: skip
ALIAS = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "alias", "namespace": "foo"},
         "spec": {"selector": {"app": "web"}, "ports": SHARED}}  # fmt: skip
WHOLE = "{}.{}.svc.cluster.local"
CALLERS = ("cluster.local/ns/foo/sa/a", "cluster.local/ns/bar/sa/b")
ISSUERS = ("http://a", "http://b")


def token(iss="http://a", aud=("istio",), sub="u", groups=("x",), good=True):
    return {"iss": iss, "aud": list(aud), "sub": sub, "groups": list(groups), "azp": "app", "good": good}


TOKENS = [None, token(), token("http://b", groups=()), token("http://c"), token(good=False), token(aud=["other"]),
          token(sub="", groups=["x", "y"])]  # fmt: skip
WAYS = [("GET", False), ("POST", False), ("OPTIONS", True)]
REQUESTS = [
    Request(name, home, port, caller, token, path, query, method, preflight, headers)
    for (home, name), ports in [*WORLD.items(), (("foo", "alias"), SHARED)]
    for port in ports
    for caller, token, path, query, (method, preflight), headers in product(
        [None, *CALLERS], TOKENS, ["/a", "/a/b.css", "/b"], ["", "?x=.css"], WAYS, [{}, {"v": "1"}]
    )
]


def of(kind, name, namespace, spec, api="authentication"):
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": f"{api}.istio.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def some(**optional):
    return st.fixed_dictionaries({}, optional=optional)


def lists(of, most=2, least=0, by=None):
    return st.lists(of, min_size=least, max_size=most, unique_by=by)


def place(policy):
    return policy["metadata"].get("namespace"), policy["metadata"]["name"]


def sampled(*values):
    return st.sampled_from(values)


PATHS = st.builds(
    lambda kind, text: {kind: text}, sampled("exact", "prefix", "suffix"), sampled("/a", "/b", ".css", "/a/")
)
TRIGGERS = lists(some(includedPaths=lists(PATHS), excludedPaths=lists(PATHS)))
JWTS = st.builds(lambda issuer, more: {"jwt": {"issuer": issuer, **more}}, sampled(*ISSUERS),
                 some(audiences=sampled([], ["istio"], ["istio", "x"]), triggerRules=TRIGGERS))  # fmt: skip
ORIGINS = sampled([]) | lists(JWTS, 2, 1, lambda one: one["jwt"]["issuer"])
PEERS = lists(sampled({"mtls": {}}, {"mtls": None}, {"mtls": {"mode": "PERMISSIVE"}}))
BINDINGS = sampled("USE_PEER", "USE_ORIGIN")
SPECS = some(peers=PEERS, peerIsOptional=st.booleans()) | st.builds(
    lambda origins, more: {"origins": origins, **more}, ORIGINS,
    some(peers=PEERS, originIsOptional=sampled(False, False, True), principalBinding=BINDINGS))  # fmt: skip
PORTS = sampled([{"number": 80}], [{"name": "http-admin"}], [{"number": 80}, {"number": 90}], [{"number": 90}])
TARGETS = st.builds(lambda name, ports: {"name": name, **ports}, sampled("web", "api"),
                    sampled({}, {}) | st.builds(lambda ports: {"ports": ports}, PORTS))  # fmt: skip
AIMED = st.builds(lambda name, home, targets, spec: of("Policy", name, home, {"targets": targets, **spec}),
                  sampled("p", "q"), sampled("foo", "foo", "bar"),
                  lists(TARGETS, 2, 1, lambda one: one["name"]), SPECS)  # fmt: skip
SPACES = st.builds(lambda home, spec: of("Policy", "default", home, spec), sampled("foo", "bar"), SPECS)
MESHES = st.builds(lambda spec: of("MeshPolicy", "default", "", spec), SPECS)
HOSTS = sampled(*(WHOLE.format(name, home) for home, name in WORLD))
SCOPES = some(namespaces=lists(sampled("foo", "bar")), services=lists(HOSTS))
CONFIGS = st.builds(lambda mode, ins, out: of("ClusterRbacConfig", "default", "", {"mode": mode, "inclusion": ins,
                    "exclusion": out}, "rbac"), sampled("OFF", "ON", "ON", "ON_WITH_INCLUSION", "ON_WITH_EXCLUSION"),
                    SCOPES, SCOPES)  # fmt: skip
PATTERNS = lists(sampled("/a", "/a*", "*.css", "/b", "*"))
CONSTRAINTS = lists(
    sampled(
        {"key": "request.headers[v]", "values": ["1"]},
        {"key": "request.headers[v]", "values": ["*"]},
        {"key": "destination.port", "values": ["8080"]},
        {"key": "source.ip", "values": ["1.1.1.1"]},
    ),
    1,
)
RULES = st.builds(
    lambda services, more: {"services": services, **more},
    sampled(["*"], ["*"], []) | lists(HOSTS, 2, 1) | sampled(["web"], ["web.*"]),
    some(paths=PATTERNS, not_paths=PATTERNS, methods=sampled(["GET"], ["*"], ["GET", "OPTIONS"]),
         not_methods=sampled(["GET"]),
         ports=sampled([8080], [80], [9090]), not_ports=sampled([8080]), constraints=CONSTRAINTS),
)  # fmt: skip
NAMES = lists(sampled(*CALLERS, "cluster.local/ns/foo/*", "*/sa/b"))
SPACED = lists(sampled("foo", "b*"))
VALUES = sampled("x", "*", "http://a/u", "http://a/*", "app", CALLERS[0], "foo", "1")
PROPERTIES = st.dictionaries(
    sampled("source.principal", "source.namespace", "request.auth.principal", "request.auth.claims[groups]",
            "request.auth.presenter", "request.headers[v]", "destination.port"), VALUES, max_size=1)  # fmt: skip
SUBJECTS = some(user=sampled("*", CALLERS[0]), names=NAMES, not_names=NAMES, namespaces=SPACED, not_namespaces=SPACED,
                group=sampled("x"), properties=PROPERTIES)  # fmt: skip
SIMPLE = sampled({"user": "*"}, {"user": CALLERS[0]}, {"properties": {"request.auth.claims[groups]": "x"}},
                 {"properties": {"request.auth.principal": "http://a/*"}}, {"namespaces": ["bar"]})  # fmt: skip


@st.composite
def roles(draw):
    name, home = draw(sampled("r", "s")), draw(sampled("foo", "bar"))
    role = of("ServiceRole", name, home, {"rules": draw(lists(RULES, 2, 1))}, "rbac")
    given_to = {"subjects": draw(lists(SIMPLE | SUBJECTS, 2, 1)), "roleRef": {"kind": "ServiceRole", "name": name}}
    return [role, of("ServiceRoleBinding", name, home, given_to, "rbac")]


@st.composite
def configurations(draw):
    """Draw old objects of all scopes."""
    found = [*draw(lists(MESHES, 1)), *draw(lists(SPACES, by=place)), *draw(lists(AIMED, by=place))]
    if draw(st.booleans()):
        bound = draw(lists(roles(), by=lambda one: place(one[0])))
        found += [draw(CONFIGS), *(one for role in bound for one in role)]
    return found + [ALIAS] * draw(sampled(0, 0, 0, 1))


LOOKED = sampled(
    {"origins": [{"jwt": {"issuer": "http://a"}}], "principalBinding": "USE_ORIGIN"},
    {"origins": [{"jwt": {"issuer": "http://a"}}], "originIsOptional": True},
    {"origins": [{"jwt": {"issuer": "http://a", "triggerRules": [{"excludedPaths": [{"exact": "/a"}]}]}}]},
    {},
)
TO = sampled({}, {"targets": [{"name": "web"}]}, {"targets": [{"name": "web", "ports": [{"number": 80}]}]})
RULE = st.builds(
    lambda services, more: {"services": services, **more},
    sampled(["*"], ["*"], [WHOLE.format("web", "foo")], ["web"]),
    some(paths=PATTERNS, not_paths=PATTERNS),
)
SUBJECT = SIMPLE | sampled(
    {}, {"properties": {"destination.port": "1"}}, {"properties": {"request.auth.principal": "*"}}
)


@st.composite
def guarded(draw):
    """Draw a namespace with a role, and the policies about tokens there."""
    aimed, spec = draw(TO), {"peers": [{"mtls": draw(sampled({}, {"mode": "PERMISSIVE"}))}], **draw(LOOKED)}
    role = of("ServiceRole", "r", "foo", {"rules": [draw(RULE)]}, "rbac")
    subjects = {"subjects": [draw(SUBJECT)], "roleRef": {"kind": "ServiceRole", "name": "r"}}
    return [draw(CONFIGS), of("Policy", "p" if aimed else "default", "foo", {**aimed, **spec}), role,
            of("ServiceRoleBinding", "b", "foo", subjects, "rbac")] + [ALIAS] * draw(sampled(0, 0, 0, 1))  # fmt: skip


def reasons(request: Request) -> set[str]:
    """Return the notes that explain why Istio now refuses this request, which Istio 1.4 let in."""
    notes = {authn.PREFLIGHT} if request.preflight else set()
    if request.token and request.http:
        notes |= {authn.EVERYWHERE, authn.ALL_PORTS, authn.OPTIONAL}
        notes |= set() if request.token["sub"] else {authn.SUBJECT}
    if not request.http:
        notes |= {authn.TCP, authn.TCP_WIDE}
    return notes | ({rbac.UNQUERIED} if request.query else set())


@given(configurations() | guarded(), st.integers(0, 2**32), st.booleans())
@settings(max_examples=400)
def test_a_translation_lets_in_no_new_request_and_reports_each_new_refusal(policies, seed, manifests):
    labels_by_name = {"web": {"app": "web"}, "api": {"app": "api"}}
    known = Services.of([*SERVICES, *policies]) if manifests else Services(labels_by_name)
    try:
        made = translate(policies, known)
    except LegacyError as error:
        assert re.fullmatch(r".+\. [A-Z].+\.", str(error))  # what is wrong, then what to do
        event("refused")
        return
    event("translated")
    objects = [one.manifest for one in made if one.manifest]
    notes = {note for one in made for note in (*one.notes, *one.warnings)}
    shared = manifests and ALIAS in policies
    for request in random.Random(seed).sample([one for one in REQUESTS if shared or one.service != "alias"], 100):
        labels = {"app": "web" if request.service == "alias" else request.service}
        then = legacy_then.allowed(policies, request)
        now = legacy_now.allowed(objects, request, labels)
        assert then or not now, f"let in: {request}"
        assert now or not then or notes & reasons(request), f"refused without a note: {request}"


def test_both_evaluators_give_the_answers_of_figure_2():
    """The expected answers are written by hand, to check both evaluators."""
    jwt = {"issuer": "http://a", "jwksUri": "http://a/certs", "audiences": ["istio"]}
    spec = {"targets": [{"name": "web"}], "peers": [{"mtls": {}}], "origins": [{"jwt": jwt}]}
    policies = [of("MeshPolicy", "default", "", {"peers": [{"mtls": {}}]}), of("Policy", "web", "foo", spec)]
    objects = [one.manifest for one in translate(policies, Services.of(SERVICES)) if one.manifest]
    rows = [(None, None, False), (None, token(), False), (CALLERS[0], None, False), (CALLERS[0], token(), True),
            (CALLERS[0], token(good=False), False), (CALLERS[0], token(aud=["x"]), False)]  # fmt: skip
    for caller, found, expected in rows:
        request = Request("web", "foo", WEB[0], caller, found)
        assert legacy_then.allowed(policies, request) is expected
        assert legacy_now.allowed(objects, request, {"app": "web"}) is expected
    assert ROOT == "istio-system" and ASSUMED and subjects.AUTHENTICATED


@pytest.mark.parametrize("field", ["mode", "rules", "selector"])
def test_a_weaker_translation_is_seen(field):
    """If a part of the translation is missing, a refused request gets in, and the first test would find it."""
    jwt = {"issuer": "http://a", "jwksUri": "http://a/certs"}
    policies = [
        of("Policy", "web", "foo", {"targets": [{"name": "web"}], "peers": [{"mtls": {}}], "origins": [{"jwt": jwt}]})
    ]
    objects = [one.manifest for one in translate(policies, Services.of(SERVICES)) if one.manifest]
    weaker = {"mode": objects[1:], "rules": objects[:2], "selector": []}[field]
    assert any(legacy_now.allowed(weaker, one, {"app": one.service}) and not legacy_then.allowed(policies, one)
               for one in REQUESTS)  # fmt: skip
