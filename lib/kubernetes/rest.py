"""Requests to a Kubernetes API: the path of an object by its kind, and errors as sentences.

`kubernetes.dynamic.DynamicClient` does the same, but it asks for all API groups first, keeps what it found in a file
that outlives the cluster, and has no call for a pod's log.
"""

from __future__ import annotations

import json
from typing import Any

import urllib3
from kubernetes import client

from lib.errors import ClusterError
from lib.polling import wait

TIMEOUT = 30  # seconds for one request
KNOWN = 60  # seconds until the API server knows the kind of a new definition

Object = dict[str, Any]  # a Kubernetes object
Query = list[tuple[str, str]]


class NotFound(ClusterError):
    """The API server does not have the object, or does not know its kind."""


class Rest:
    """The paths and requests of one API server; it reads an API version's kinds once."""

    def __init__(self, api: client.ApiClient) -> None:
        self.api = api
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    def path(self, api_version: str, kind: str, namespace: str | None, name: str | None) -> str:
        """Return the path of an object, or of all objects of its kind if `name` is None."""
        plural, namespaced = self._resource(api_version, kind)
        scope = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{_base(api_version)}{scope}/{plural}" + (f"/{name}" if name else "")

    def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        if (api_version, kind) not in self._resources:
            for resource in json.loads(self.call("GET", _base(api_version)))["resources"]:
                if "/" not in resource["name"]:  # a subresource, such as pods/log
                    self._resources[api_version, resource["kind"]] = (resource["name"], resource["namespaced"])
        try:
            return self._resources[api_version, kind]
        except KeyError:
            raise NotFound(f'no matches for kind "{kind}" in version "{api_version}"', 404) from None

    def wait_for_kinds(self, definitions: list[Object]) -> None:
        """Wait until the API server knows the kinds of new CustomResourceDefinitions.

        The API server accepts a definition some time before it serves the objects. Source:
        https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
        """
        for spec in (one["spec"] for one in definitions):
            served = [f"{spec['group']}/{one['name']}" for one in spec["versions"] if one["served"]]
            kind = spec["names"]["kind"]
            known = lambda: [self.path(version, kind, None, None) for version in served]  # noqa: E731, B023
            wait(f"the API server to know the kind {kind}", known, lambda _: True, deadline=KNOWN)

    def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Object | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """Return the body of the answer; raise ClusterError if the API server refuses the request or is not there."""
        sent = {"Accept": "application/json", **(headers or {})}
        text = json.dumps(body) if body is not None else None
        request = self.api.param_serialize(
            method, path, query_params=query or [], header_params=sent, body=text, auth_settings=["BearerToken"]
        )
        try:
            response = self.api.call_api(*request, _request_timeout=TIMEOUT)
            content = response.read()
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(
                f"No answer from the cluster's API at {self.api.configuration.host}: {error}. Is the cluster up?"
            ) from None
        if response.status >= 300:
            raise _refusal(response.status, content.decode(errors="replace"), method, path)
        return content

    def websocket(self, path: str, query: Query) -> tuple[str, dict[str, str]]:
        """Return the URL and the headers of a websocket request.

        CoreV1Api does this too, but importing it and its models costs 0.5 s of CPU.
        """
        _, url, headers, *_ = self.api.param_serialize(
            "GET", path, query_params=query, header_params={"Accept": "*/*"}, auth_settings=["BearerToken"]
        )
        return url, headers


def _base(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _refusal(status: int, body: str, method: str, path: str) -> ClusterError:
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError):
        message = body
    if status == 404:
        return NotFound(message.strip(), status=status, reason=message.strip())
    hints = {
        401: " The cluster does not know you: check the AWS profile, run 01-cluster, or ask for an access entry.",
        403: " Ask for that right.",
    }
    reason = message.strip().rstrip(".")
    return ClusterError(f"{method} {path}: {status} {reason}.{hints.get(status, '')}", status=status, reason=reason)
