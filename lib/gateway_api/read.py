"""The fields of Istio's Gateway and VirtualService and of an Ingress that the Gateway API can express.

Any other field is an error that names the field. Source: istio/api networking/v1; Kubernetes networking.k8s.io/v1.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from lib.legacy.read import Old

Mode = Literal["SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL"]


class Port(Old):
    """A server's port."""

    number: int
    name: str = ""
    protocol: str
    target_port: int | None = None


class Tls(Old):
    """How a server ends TLS. The oldest protocol that the Gateway API's listeners accept is TLS 1.2."""

    https_redirect: bool = False
    mode: Mode | None = None
    credential_name: str = ""
    min_protocol_version: Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2"] = "TLS_AUTO"


class Server(Old):
    """A server of a Gateway."""

    port: Port
    hosts: list[str]
    tls: Tls | None = None
    name: str = ""


class Gateway(Old):
    """The spec of Istio's Gateway."""

    selector: dict[str, str]
    servers: list[Server]


class Text(Old):
    """A StringMatch."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class Match(Old):
    """An HTTPMatchRequest."""

    name: str = ""
    uri: Text | None = None
    method: Text | None = None
    headers: dict[str, Text] = {}
    query_params: dict[str, Text] = {}


class PortSelector(Old):
    """The port of a destination."""

    number: int


class Destination(Old):
    """A Service."""

    host: str
    port: PortSelector | None = None


class Weighted(Old):
    """A destination with its part of the requests."""

    destination: Destination
    weight: int | None = None


class Changes(Old):
    """Changes of headers."""

    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: list[str] = []


class Headers(Old):
    """Changes of the headers of requests and responses."""

    request: Changes = Changes()
    response: Changes = Changes()


class Rewrite(Old):
    """A rewrite of path and host."""

    uri: str = ""
    authority: str = ""


class Redirect(Old):
    """A redirect."""

    uri: str = ""
    authority: str = ""
    scheme: Literal["", "http", "https"] = ""
    port: int | None = None
    redirect_code: Literal[301, 302, 303, 307, 308] = 301


class Direct(Old):
    """An answer of the gateway itself; only a refusal has an equal."""

    status: Annotated[int, Field(ge=400)]


class Rule(Old):
    """An HTTPRoute of a VirtualService."""

    name: str = ""
    match: list[Match] = []
    route: list[Weighted] = []
    headers: Headers = Headers()
    rewrite: Rewrite | None = None
    redirect: Redirect | None = None
    direct_response: Direct | None = None
    timeout: str = ""
    retries: dict[str, Any] | None = None


class Virtual(Old):
    """The spec of a VirtualService."""

    hosts: list[str]
    gateways: list[str] = ["mesh"]
    http: list[Rule] = []


class BackendPort(Old):
    """The port of an Ingress' backend."""

    number: int | None = None
    name: str = ""


class BackendService(Old):
    """The Service of an Ingress' backend."""

    name: str
    port: BackendPort


class Backend(Old):
    """An Ingress' backend."""

    service: BackendService


class Path(Old):
    """A path of an Ingress."""

    path: str = "/"
    path_type: Literal["Exact", "Prefix", "ImplementationSpecific"]
    backend: Backend


class Paths(Old):
    """The paths of a host."""

    paths: list[Path]


class Host(Old):
    """A host of an Ingress with its paths."""

    host: str
    http: Paths


class IngressTls(Old):
    """Hosts with a certificate."""

    hosts: list[str]
    secret_name: str


class Ingress(Old):
    """The spec of an Ingress."""

    ingress_class_name: str = ""
    rules: list[Host]
    tls: list[IngressTls] = []
