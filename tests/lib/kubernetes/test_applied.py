"""What an apply would change is read off the live object: in doubt it is applied."""

import copy

import pytest

from lib.kubernetes.applied import in_force

MANAGER = "istio-keycloak-runbook"
STATED = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "open", "namespace": "probes", "labels": {"app": "open"}},
    "spec": {
        "selector": {"matchLabels": {"app": "open"}},
        "template": {
            "metadata": {"labels": {"app": "open"}, "annotations": {}},
            "spec": {
                "containers": [
                    {
                        "name": "httpbin",
                        "image": "httpbin:1",
                        "ports": [{"containerPort": 8080}],
                        "securityContext": {"capabilities": {"drop": ["ALL"]}},
                    }
                ],
            },
        },
    },
}
OWNED = {
    "f:metadata": {"f:labels": {"f:app": {}}},
    "f:spec": {
        "f:selector": {},
        "f:template": {
            "f:metadata": {"f:labels": {"f:app": {}}, "f:annotations": {}},
            "f:spec": {
                "f:containers": {
                    'k:{"name":"httpbin"}': {
                        ".": {},
                        "f:name": {},
                        "f:image": {},
                        "f:ports": {'k:{"containerPort":8080,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
                        "f:securityContext": {"f:capabilities": {"f:drop": {}}},
                    }
                }
            },
        },
    },
}


def live(stated=STATED, owned=OWNED, manager=MANAGER, operation="Apply"):
    """Return the object as the API server has it: with defaults, and with fields of other managers."""
    made = copy.deepcopy(stated)
    made["metadata"] |= {"uid": "1", "resourceVersion": "7", "annotations": {"revision": "1"}}
    made["spec"]["replicas"] = 1
    pod = made["spec"]["template"]
    pod["metadata"].pop("annotations")
    pod["spec"]["restartPolicy"] = "Always"
    container = pod["spec"]["containers"][0]
    container["imagePullPolicy"] = "IfNotPresent"
    for port in container.get("ports", []):
        port["protocol"] = "TCP"
    entry = {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsV1": owned}
    made["metadata"]["managedFields"] = [{**entry, "manager": "kubectl", "operation": "Update", "fieldsV1": {}}, entry]
    return made


def changed(act, thing=STATED):
    made = copy.deepcopy(thing)
    act(made)
    return made


def container(thing):
    return thing["spec"]["template"]["spec"]["containers"][0]


def test_what_was_applied_as_it_is_needs_no_request():
    assert in_force(live(), STATED, MANAGER)


@pytest.mark.parametrize(
    "act",
    [
        lambda one: container(one).update(image="httpbin:2"),
        lambda one: container(one)["securityContext"]["capabilities"].update(drop=["NET_RAW"]),
        lambda one: container(one)["ports"].append({"containerPort": 8081}),
        lambda one: container(one).pop("ports"),
        lambda one: container(one).update(command=["sleep"]),
        lambda one: one["spec"]["selector"]["matchLabels"].update(app="closed"),
        lambda one: one["metadata"]["labels"].update(team="a"),
        lambda one: one["metadata"].pop("labels"),
        lambda one: one["spec"].update(replicas=1),
        lambda one: one["spec"]["template"]["metadata"]["annotations"].update(a="b"),
        lambda one: one["spec"]["template"]["spec"]["containers"].append({"name": "other"}),
        lambda one: one.update(apiVersion="apps/v2"),
    ],
)
def test_another_object_than_the_one_applied_is_applied(act):
    assert not in_force(live(), changed(act), MANAGER)


@pytest.mark.parametrize(
    "act",
    [
        lambda one: container(one).update(image="evil:1"),
        lambda one: container(one)["ports"].clear(),
        lambda one: container(one)["securityContext"]["capabilities"]["drop"].clear(),
        lambda one: one["spec"]["selector"]["matchLabels"].clear(),
        lambda one: one["spec"]["template"]["metadata"].pop("labels"),
        lambda one: one["spec"]["template"]["spec"].update(containers=[]),
    ],
)
def test_what_somebody_changed_since_is_applied_again(act):
    assert not in_force(changed(act, live()), STATED, MANAGER)


def test_what_another_manager_owns_is_applied():
    assert not in_force(live(manager="kubectl"), STATED, MANAGER)
    assert not in_force(live(operation="Update"), STATED, MANAGER)


def test_lists_that_are_one_value_and_sets_are_compared_as_the_api_owns_them():
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "a"},
        "spec": {
            "rules": [{"to": [{"operation": {"paths": ["/"]}}]}],
            "ports": {8080: {"mode": "STRICT"}},
            "set": ["x"],
        },
    }
    owned = {"f:spec": {"f:rules": {}, "f:ports": {"f:8080": {".": {}, "f:mode": {}}}, "f:set": {'v:"x"': {}}}}
    entry = {"manager": MANAGER, "operation": "Apply", "apiVersion": policy["apiVersion"], "fieldsV1": owned}
    there = {**copy.deepcopy(policy), "metadata": {"name": "a", "managedFields": [entry]}}
    there["spec"]["ports"] = {"8080": {"mode": "STRICT"}}
    there["spec"]["set"] = ["x", "of another manager"]
    assert in_force(there, policy, MANAGER)
    assert not in_force(changed(lambda one: one["spec"]["rules"].append({}), there), policy, MANAGER)
    assert not in_force(
        changed(lambda one: one["spec"]["ports"]["8080"].update(mode="DISABLE"), there), policy, MANAGER
    )
    assert not in_force(changed(lambda one: one["spec"]["set"].remove("x"), there), policy, MANAGER)


def test_an_object_that_states_nothing_is_in_force_where_it_exists():
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": "b"}}
    assert in_force({**account, "metadata": {**account["metadata"], "uid": "1"}}, account, MANAGER)
    labelled = {**account, "metadata": {**account["metadata"], "labels": {"a": "b"}}}
    assert not in_force(account, labelled, MANAGER)
