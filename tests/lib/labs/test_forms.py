"""A fault of the way in has a form for each API of gateways, and docs/why.md has the answers of both."""

import re

import pytest

from lib.istio import installation
from lib.labs import changes
from lib.labs.lab import Lab, key
from lib.labs.notebook import NAMES
from lib.params import ROOT
from lib.steps import gateway_tls
from tests.support.little_cluster import Served, new_run, no_file_is_left  # noqa: F401

GROUPS = {installation.ISTIO: "networking.istio.io", installation.GATEWAY_API: "gateway.networking.k8s.io"}
FORMS = [one for one in NAMES.values() if one.gateway_api]
ROW = re.compile(r"^\| (?P<name>[^|]+) \| [^|]+ \| [^|]+ \| (?P<answer>[^|]+) \| `(?P<cause>[^`|]+)` \|$", re.MULTILINE)


class Live(Served):
    """A cluster in memory with a gateway's pod."""

    def get(self, api_version, kind, name, namespace=None):
        return {"spec": {"selector": {"istio": "ingressgateway"}}}

    def pod(self, labels, namespace):
        return {"metadata": {"labels": {"istio": "ingressgateway"}}, "spec": {"serviceAccountName": "gw"}}


@pytest.mark.parametrize("api", GROUPS)
@pytest.mark.parametrize("fault", FORMS, ids=lambda one: one.name.replace(" ", "-"))
def test_a_form_breaks_one_object_of_its_api(fault, api):
    lab = Lab(new_run(Live(), gateway_api=api))
    sound = {key(one): one for one in [*lab.route(), *gateway_tls.gateway(lab.run)]}
    fault.form(api).change(lab)
    ((which, broken),) = lab.changes.items()
    assert which[0].startswith(f"{GROUPS[api]}/")
    assert broken["metadata"] == sound[which]["metadata"] and broken["spec"] != sound[which]["spec"]


def test_each_fault_of_a_route_or_gateway_has_both_forms():
    theirs = {changes.route().__code__, changes.gateway(len).__code__}
    assert [one.name for one in NAMES.values() if one.change.__code__ in theirs] == [one.name for one in FORMS]


def test_a_fault_without_another_form_is_the_same():
    assert NAMES["no token"].form(installation.GATEWAY_API) == NAMES["no token"]
    assert all(one.form(installation.ISTIO) == one for one in FORMS)


def test_the_page_has_the_answer_and_the_cause_of_each_form_of_istios():
    text = (ROOT / "docs" / "why.md").read_text().partition("### Routes and Gateways of")[2].partition("\n## ")[0]
    page = {row["name"]: (row["answer"].partition(" ")[0], row["cause"]) for row in ROW.finditer(text)}
    assert page == {one.name: (one.prediction.replace("000", "no"), one.cause) for one in FORMS}
