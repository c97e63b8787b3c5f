"""What an apply did, told from the object before and after."""

import json
from types import SimpleNamespace

import pytest

from lib.errors import ClusterError
from lib.kubernetes.cluster import Cluster

THING = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "foo"}, "data": {"x": "1"}}
KINDS = {"resources": [{"name": "configmaps", "namespaced": True, "kind": "ConfigMap"}]}


class Api:
    """A cluster's API that holds one object, and answers an apply with another."""

    configuration = SimpleNamespace(host="https://api")

    def __init__(self, before, after):
        self.pages = {"GET": before, "PATCH": after}

    def param_serialize(self, method, path, query_params, header_params, body, auth_settings):
        return method, path

    def call_api(self, method, path, _request_timeout):
        return Response(KINDS if path == "/api/v1" else self.pages[method])


class Response:
    """One answer of the API; none of nothing."""

    def __init__(self, page):
        self.page, self.status = page, 200 if page else 404

    def read(self):
        return json.dumps(self.page or {"message": "not found", "reason": "NotFound"}).encode()


def kept(version="1", **more):
    return {**THING, "metadata": {**THING["metadata"], "resourceVersion": version, "managedFields": []}, **more}


@pytest.mark.parametrize(
    ("before", "after", "action"),
    [
        (None, kept(), "created"),
        (kept(), kept(), "unchanged"),
        (kept("1", status={"a": 1}), kept("2", status={}), "unchanged"),
        (kept("1"), kept("2", data={"x": "2"}), "changed"),
        (kept("1"), kept("2", metadata={**THING["metadata"], "labels": {"a": "b"}}), "changed"),
    ],
    ids=["new", "the same", "other status and bookkeeping", "other data", "another label"],
)
def test_an_apply_tells_what_it_did(before, after, action):
    assert Cluster(Api(before, after)).apply(THING) == action


def test_what_is_being_deleted_is_gone_before_it_is_made_again():
    dying = kept(metadata={**THING["metadata"], "uid": "1", "deletionTimestamp": "2026-11-25T15:00:00Z"})
    api = Api(dying, kept())
    looks = iter([dying, dying, None, None])
    said, call = [], api.call_api

    def counted(method, path, **more):
        if method == "GET" and path != "/api/v1":
            api.pages["GET"] = next(looks)
        said.append(method)
        return call(method, path, **more)

    api.call_api = counted
    assert Cluster(api).apply(THING) == "created"
    assert said[-1] == "PATCH" and next(looks, "all were looked at") == "all were looked at"


def test_an_object_that_is_not_there_has_the_status_404():
    with pytest.raises(ClusterError, match="No ConfigMap a in namespace foo. Run the step") as caught:
        Cluster(Api(None, None)).get("v1", "ConfigMap", "a", "foo")
    assert caught.value.status == 404


def test_of_a_kind_that_the_cluster_does_not_know_there_are_no_objects():
    assert Cluster(Api(None, None)).items("security.istio.io/v1", "AuthorizationPolicy") == []
    assert Cluster(Api(None, None)).items("v1", "NoSuchKind") == []


def test_an_object_of_a_new_kind_waits_until_the_api_server_knows_the_kind():
    spec = {"group": "g", "names": {"kind": "Way"}, "versions": [{"name": "v1", "served": True}]}
    definition = {"apiVersion": "v1", "kind": "CustomResourceDefinition", "metadata": {"name": "ways.g"}, "spec": spec}
    way = {"apiVersion": "g/v1", "kind": "Way", "metadata": {"name": "a"}}
    looks = iter([[], [], [{"name": "ways", "namespaced": False, "kind": "Way"}]])
    api, said = Api(None, kept()), []

    def answer(method, path, **_):
        said.append((method, path))
        if path == "/api/v1":
            return Response({"resources": [{"name": "definitions", "namespaced": False, **definition}]})
        if path == "/apis/g/v1":
            return Response({"resources": next(looks)})
        return Response(kept() if method == "PATCH" else None)

    api.call_api = answer
    assert [action for _, action in Cluster(api).apply_all([way, definition])] == ["created", "created"]
    assert said[-1] == ("PATCH", "/apis/g/v1/ways/a")
    assert [path for _, path in said].count("/apis/g/v1") == 3


def test_what_was_waited_for_is_returned_as_it_was_ready():
    """On a busy node a readiness probe times out, and a pod that was ready is not, a moment later."""
    counts = {"observedGeneration": 1, "updatedReplicas": 1, "replicas": 1}
    metadata = {"name": "httpbin", "namespace": "foo", "generation": 1}
    shown = [
        {"metadata": metadata, "spec": {"replicas": 1}, "status": {**counts, "readyReplicas": n}} for n in (0, 1, 0)
    ]
    api, looks = Api(None, None), iter(shown)
    deployments = {"resources": [{"name": "deployments", "namespaced": True, "kind": "Deployment"}]}
    api.call_api = lambda method, path, **_: Response(deployments if path == "/apis/apps/v1" else next(looks))
    found = Cluster(api).wait_rolled_out("Deployment", "httpbin", "foo", deadline=5)
    assert found["status"]["readyReplicas"] == 1
