"""The commands that `why` prints: what they say about the object, and that a shell reads them as they are meant."""

import json
import shlex

from lib.kubernetes import kubectl

RULES = [{"to": [{"operation": {"ports": ["80"]}}]}, {"from": [{"source": {"principals": ["a", "b"]}}]}]
POLICY = {"kind": "AuthorizationPolicy", "metadata": {"name": "web", "namespace": "shop"}, "spec": {"rules": RULES}}


def operations(command):
    *_, given = shlex.split(command)
    return json.loads(given)


def test_a_field_is_replaced_where_it_has_the_old_value():
    command = kubectl.edit(POLICY, "principals", ["a", "b"], ["a", "it's"])
    assert command.startswith("kubectl -n shop patch authorizationpolicy web --type=json -p ")
    place = "/spec/rules/1/from/0/source/principals"
    assert operations(command) == [{"op": "replace", "path": place, "value": ["a", "it's"]}]


def test_an_item_of_a_list_is_removed():
    where = "/spec/rules/1/from/0/source/principals/1"
    assert operations(kubectl.edit(POLICY, "principals", "b", None)) == [{"op": "remove", "path": where}]


def test_no_command_for_a_value_that_is_not_there_and_for_an_object_that_is_not_known():
    assert kubectl.edit(POLICY, "principals", ["c"], ["d"]) == kubectl.edit({}, "principals", ["a"], ["d"]) == ""
    assert kubectl.edit({"spec": POLICY["spec"]}, "ports", ["80"], None) == ""


def test_slashes_in_a_name_are_escaped():
    found = {**POLICY, "spec": {"labels": {"a/b~c": "1"}}}
    assert operations(kubectl.edit(found, "a/b~c", "1", None))[0]["path"] == "/spec/labels/a~1b~0c"


def test_a_shell_reads_a_manifest_back():
    echo, manifest, *rest = shlex.split(kubectl.apply(POLICY | {"metadata": {"name": "it's"}}))
    assert echo == "echo" and json.loads(manifest)["metadata"] == {"name": "it's"}
    assert rest == ["|", "kubectl", "apply", "-f", "-"]
