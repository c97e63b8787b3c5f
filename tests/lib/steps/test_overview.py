"""The picture comes from the cluster's objects, and the table of permissions from its policies."""

from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from lib.errors import MissingStep
from lib.istio import installation
from lib.params import load
from lib.steps import overview

HERE = load("dev")
ISSUER = "https://sso.example/realms/istio"
ISTIO, GATEWAY_API = installation.ISTIO, installation.GATEWAY_API


class Cluster:
    """A cluster that finds the given objects only."""

    def __init__(self, *things):
        self.things = things

    def items(self, api_version, kind, namespace=None, labels=""):
        return [one for one in self.things if one["kind"] == kind and namespace in (None, home(one))]

    def find(self, api_version, kind, name, namespace=None):
        found = [one for one in self.items(api_version, kind, namespace) if one["metadata"]["name"] == name]
        return found[0] if found else None

    def get(self, *named):
        return self.find(*named)

    def version(self):
        return "v1.36.3"


def home(thing):
    return thing["metadata"].get("namespace")


def thing(kind, name, namespace=None, **more):
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace}, **more}


def pod(app, namespace="foo", sidecar=True, account="", **labels):
    names = ["app", "istio-proxy"] if sidecar else ["app"]
    pod = thing("Pod", f"{app}-1", namespace)
    pod["metadata"]["labels"] = {"app": app, **labels}
    pod["spec"] = {"containers": [{"name": name} for name in names], "serviceAccountName": account or app}
    return pod


def balanced(service, **address):
    return thing("Service", service.name, service.namespace, status={"loadBalancer": {"ingress": [address]}})


def policy(kind, namespace, app="", **spec):
    selector = {"selector": {"matchLabels": {"app": app}}} if app else {}
    return thing(kind, "one", namespace, spec={**selector, **spec})


def way_in(api):
    """The ingress gateway's pod, the Services of the gateways, and the way from the gateway to httpbin."""
    route = {"route": [{"destination": {"host": "httpbin", "port": {"number": 8000}}}]}
    ways = {
        ISTIO: [thing("Gateway", "way", "foo"), thing("VirtualService", "way", "foo", spec={"http": [route]})],
        GATEWAY_API: [
            thing("HTTPRoute", "way", "foo", spec={"rules": [{"backendRefs": [{"name": "httpbin", "port": 8000}]}]})
        ],
    }
    ingress = installation.INGRESS[api]
    return [
        pod("gateway", ingress.namespace, account="gw", istio="ingressgateway"),
        balanced(ingress, hostname="k8s-" + "x" * 60 + ".elb.us-east-1.amazonaws.com"),
        balanced(installation.KEYCLOAK_GATEWAY[api], ip="198.18.0.102"),
        *ways[api],
    ]


def mesh_of(*more, api=GATEWAY_API):
    """Everything up to step 08."""
    labelled = thing("Namespace", "foo")
    labelled["metadata"]["labels"] = {"istio-injection": "enabled"}
    return Cluster(
        pod("istiod", "istio-system", False),
        *way_in(api),
        thing("ConfigMap", "istio", "istio-system", data={"mesh": "{}"}),
        labelled,
        pod("httpbin"), pod("sleep"), pod("visitor"), pod("outsider", "istio-system", False),
        *more,
    )  # fmt: skip


STRICT = policy("PeerAuthentication", "istio-system", mtls={"mode": "STRICT"})
TOKENS = policy("RequestAuthentication", "foo", "httpbin", jwtRules=[{"issuer": ISSUER}])
BOTH = {"principals": ["*"], "requestPrincipals": [f"{ISSUER}/*"]}
FIGURE_2 = policy("AuthorizationPolicy", "foo", "httpbin", rules=[{"from": [{"source": BOTH}]}])
USERS = {"principals": ["cluster.local/ns/istio-ingress/sa/gw"], "requestPrincipals": [f"{ISSUER}/*"]}
SLEEP = {"principals": ["cluster.local/ns/foo/sa/sleep"]}
FIGURE_1 = policy(
    "AuthorizationPolicy", "foo", "httpbin", rules=[{"from": [{"source": USERS}]}, {"from": [{"source": SLEEP}]}]
)


@pytest.mark.parametrize(
    "objects, expected",
    [
        ([], ["nothing at all"] * 4),
        ([STRICT], ["nothing at all"] * 3 + ["nothing helps: plain text"]),
        ([STRICT, TOKENS], ["no token needed"] * 3 + ["nothing helps: plain text"]),
        ([STRICT, TOKENS, FIGURE_2], ["a token"] * 3 + ["nothing helps: plain text"]),
        ([STRICT, TOKENS, FIGURE_1], ["a token", "no token needed", "nothing helps", "nothing helps: plain text"]),
        ([TOKENS, FIGURE_2], ["a token"] * 3 + ["nothing helps"]),
        ([FIGURE_2], ["nothing helps"] * 4),
    ],
)
def test_who_may_ask_follows_from_the_policies(objects, expected):
    may = overview.facts(mesh_of(*objects), HERE)["may"]
    assert list(may) == ["httpbin"]
    assert [may["httpbin"][caller] for caller in overview.CALLERS] == expected


@pytest.mark.parametrize("api", [ISTIO, GATEWAY_API])
def test_each_part_has_its_state(api):
    parts = overview.facts(mesh_of(STRICT, TOKENS, FIGURE_2, api=api), load("dev", {"gateway_api": api}))["parts"]
    assert (
        parts["cluster"] == "Kubernetes v1.36.3" and parts["mtls"] == "STRICT" and parts["keycloak"] == "198.18.0.102"
    )
    assert parts["httpbin"] == "sidecar, STRICT, tokens checked, rules" and parts["outsider"] == "no sidecar"
    assert parts["foo"] == "pods made here get a sidecar" and parts["route"] == "leads to httpbin"
    assert "realm" not in parts and "postgres" not in parts and "httpbin-figure-1" not in parts


def test_the_ways_around_the_policies_are_read_too():
    side = thing("Service", "side", "foo", spec={"type": "NodePort"})
    found = overview.facts(mesh_of(STRICT, TOKENS, side), HERE)["bypasses"]
    assert {kind: list(places) for kind, places in found.items() if places} == {
        "no sidecar": ["istio-system/istiod", "istio-system/outsider"],
        "another way in": ["foo/side"],
    }


def test_without_a_cluster_nothing_stands_but_the_user():
    found = overview.facts(None, HERE)
    assert list(found["parts"]) == ["user"] and found["may"] == {}
    assert "no cluster yet" in overview.drawing(found, "01") and "<table" not in overview.drawing(found, "01")


def test_before_istio_a_cluster_is_drawn_too():
    found = overview.facts(Cluster(), HERE)
    assert found["parts"].keys() == {"user", "cluster"} and found["may"] == {}


def test_the_drawing_marks_what_its_step_adds_in_words_and_what_is_not_there_yet():
    drawn = overview.drawing(overview.facts(mesh_of(STRICT), HERE), "12")
    picture = ElementTree.fromstring(drawn[: drawn.index("</svg>") + 6])
    text = " ".join(picture.itertext())
    assert "▶ httpbin-figure-1" in text and text.count("not yet") == 3  # that, the realm, PostgreSQL
    assert "Step 12 is about: httpbin-figure-1." in picture.get("aria-label")
    assert "amazonaws.com" not in text and "…" in text  # an address that is too long for its box
    assert "▶" not in overview.drawing(overview.facts(mesh_of(), HERE))


def test_every_step_adds_something_that_the_drawing_knows():
    whole = overview.facts(mesh_of(STRICT), HERE)
    for step, names in overview.ADDED.items():
        marks = overview.drawing(whole, step).count("▶ ")
        assert marks == len(names) + 1, step  # and once in the legend


@pytest.mark.parametrize(
    "step, objects, first",
    [
        ("02", None, "01-cluster"),
        ("04", [], "03-keycloak"),
        ("05", [], "02-istio"),
        ("06", [], "02-istio"),
        ("07", [], "02-istio"),
        ("10", [], "02-istio"),
        ("12", None, "01-cluster"),
    ],
)
def test_a_step_out_of_order_names_the_step_before_it(step, objects, first):
    parts = overview.facts(None if objects is None else Cluster(*objects), HERE)["parts"]
    assert overview.missing(parts, step).endswith(f"found none; run {first} first.")


def test_every_step_has_what_it_needs_once_the_steps_before_it_are_done():
    for step, names in overview.NEEDED.items():
        earlier = [name for number, added in overview.ADDED.items() if number < step for name in added]
        assert set(names) <= set(earlier), step
        assert overview.missing(dict.fromkeys(earlier, "there"), step) == ""
        for name in names:
            parts = dict.fromkeys(set(earlier) - {name}, "there")
            assert f"expected {overview.NAMES.get(name, name)}, found none" in overview.missing(parts, step)


def test_what_is_missing_is_drawn_and_then_refused(capsys):
    run = SimpleNamespace(cluster=None, params=HERE, step="05-namespace", fact=lambda key, value: None)
    with pytest.raises(MissingStep, match="expected the cluster, found none; run 01-cluster first"):
        overview.show(run)
    assert "HTML" in capsys.readouterr().out


def test_a_notebook_shows_the_sentence_and_not_where_it_arose():
    assert MissingStep("run that first.")._render_traceback_() == ["MissingStep: run that first."]


def test_what_stands_is_kept_in_the_record():
    kept = {}
    run = SimpleNamespace(
        cluster=None, params=HERE, step="01-cluster", fact=lambda key, value: kept.update({key: value})
    )
    assert "▶ no cluster yet" in overview.show(run).data
    assert kept["standing"]["parts"] == {"user": overview.USER}
