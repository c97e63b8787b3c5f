"""The lab notebooks show what a fault changes."""

from types import SimpleNamespace

from lib.labs.lab import key
from lib.labs.notebook import object_diff

RULE = {
    "apiVersion": "security.istio.io/v1",
    "kind": "RequestAuthentication",
    "metadata": {"name": "labs", "namespace": "labs"},
    "spec": {"jwtRules": [{"issuer": "http://k/realms/istio"}]},
}


def lab(after):
    return SimpleNamespace(objects=lambda: [RULE], changes={key(RULE): after})


def test_a_changed_field_is_a_line_removed_and_a_line_added():
    lines = object_diff(lab({**RULE, "spec": {"jwtRules": [{"issuer": "http://k/realms/istio/"}]}})).splitlines()
    assert lines[:2] == ["--- RequestAuthentication labs/labs", "+++ RequestAuthentication labs/labs"]
    changed = [line for line in lines[2:] if line.startswith(("-", "+"))]
    assert changed == ["-  - issuer: http://k/realms/istio", "+  - issuer: http://k/realms/istio/"]


def test_a_deleted_object_is_all_removed_and_an_added_one_all_added():
    assert all(line.startswith("-") for line in object_diff(lab(None)).splitlines()[3:])
    added = {**RULE, "kind": "PeerAuthentication"}
    found = object_diff(SimpleNamespace(objects=lambda: [RULE], changes={key(added): added}))
    assert all(line.startswith("+") for line in found.splitlines()[3:])


def test_an_unchanged_object_is_not_shown():
    assert object_diff(lab(RULE)) == ""
