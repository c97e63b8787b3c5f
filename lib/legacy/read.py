"""The old security API as data: authentication.istio.io/v1alpha1 and rbac.istio.io/v1alpha1, gone since Istio 1.6.

Fields are those of istio/api at release-1.4, authentication/v1alpha1/policy.proto and rbac/v1alpha1/rbac.proto; each
may be written in camelCase or as in the .proto. A field that is none of them is refused by its name.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasGenerator, BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

Empty = BeforeValidator(lambda value: {} if value is None else value)  # `mtls:` and `mtls: null` mean `mtls: {}`


class Old(BaseModel):
    """What all of it has: both ways to write a name, and nothing that is unknown."""

    model_config = ConfigDict(
        extra="forbid", populate_by_name=True, alias_generator=AliasGenerator(validation_alias=to_camel)
    )


class Match(Old):
    """A path, by one of four."""

    exact: str = ""
    prefix: str = ""
    suffix: str = ""
    regex: str = ""


class Trigger(Old):
    """The paths on which a token is looked at."""

    included_paths: list[Match] = []
    excluded_paths: list[Match] = []


class Jwt(Old):
    """One issuer's tokens."""

    issuer: str
    audiences: list[str] = []
    jwks_uri: str = ""
    jwks: str = ""
    jwt_headers: list[str] = []
    jwt_params: list[str] = []
    trigger_rules: list[Trigger] = []


class Mtls(Old):
    """How the peer is authenticated."""

    allow_tls: bool = False
    mode: Literal["STRICT", "PERMISSIVE"] = "STRICT"


class Peer(Old):
    """A way to authenticate the peer."""

    mtls: Annotated[Mtls | None, Empty] = None
    jwt: Jwt | None = None


class Origin(Old):
    """A way to authenticate the end user."""

    jwt: Jwt


class Port(Old):
    """A port, by its number or its name."""

    number: int | None = None
    name: str = ""


class Target(Old):
    """A Service, and of it these ports."""

    name: str
    ports: list[Port] = []
    subset: str = ""
    labels: dict[str, str] = {}


class Spec(Old):
    """The spec of a Policy or a MeshPolicy."""

    targets: list[Target] = []
    peers: list[Peer] = []
    peer_is_optional: bool = False
    origins: list[Origin] = []
    origin_is_optional: bool = False
    principal_binding: Literal["USE_PEER", "USE_ORIGIN"] = "USE_PEER"


class Constraint(Old):
    """A condition of a ServiceRole's rule."""

    key: str
    values: list[str]


class Rule(Old):
    """What a ServiceRole lets one do."""

    services: list[str]
    hosts: list[str] = []
    not_hosts: list[str] = []
    paths: list[str] = []
    not_paths: list[str] = []
    methods: list[str] = []
    not_methods: list[str] = []
    ports: list[int] = []
    not_ports: list[int] = []
    constraints: list[Constraint] = []


class Role(Old):
    """The spec of a ServiceRole."""

    rules: list[Rule]


class Subject(Old):
    """Who may."""

    user: str = ""
    group: str = ""
    properties: dict[str, str] = {}
    names: list[str] = []
    not_names: list[str] = []
    namespaces: list[str] = []
    not_namespaces: list[str] = []


class RoleRef(Old):
    """Which ServiceRole is given."""

    kind: Literal["ServiceRole"]
    name: str


class Binding(Old):
    """The spec of a ServiceRoleBinding."""

    subjects: list[Subject]
    role_ref: RoleRef | None = None
    mode: Literal["ENFORCED"] = "ENFORCED"


class Scope(Old):
    """The services and namespaces of a ClusterRbacConfig."""

    services: list[str] = []
    namespaces: list[str] = []


class Config(Old):
    """The spec of a ClusterRbacConfig."""

    mode: Literal["OFF", "ON", "ON_WITH_INCLUSION", "ON_WITH_EXCLUSION"] = "OFF"
    inclusion: Scope = Scope()
    exclusion: Scope = Scope()
    enforcement_mode: Literal["ENFORCED"] = "ENFORCED"
