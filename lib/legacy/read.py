"""The old security API as data: authentication.istio.io/v1alpha1 and rbac.istio.io/v1alpha1, gone since Istio 1.6.

Fields are those of istio/api at release-1.4, authentication/v1alpha1/policy.proto and rbac/v1alpha1/rbac.proto; each
may be written in camelCase or as in the .proto. An unknown field is an error that names the field.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasGenerator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from lib.errors import LegacyError

Model = TypeVar("Model", bound=BaseModel)
Empty = BeforeValidator(lambda value: {} if value is None else value)  # `mtls:` and `mtls: null` mean `mtls: {}`


class Old(BaseModel):
    """The base of all specs: a field may be written in camelCase or snake_case; unknown fields are refused."""

    model_config = ConfigDict(
        extra="forbid", populate_by_name=True, alias_generator=AliasGenerator(validation_alias=to_camel)
    )


class Match(Old):
    """A path, in one of four forms."""

    exact: str = ""
    prefix: str = ""
    suffix: str = ""
    regex: str = ""


class Trigger(Old):
    """The paths where Istio checked a token."""

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


class TargetSelector(Old):
    """A Service, and the ports to which the policy applies."""

    name: str
    ports: list[Port] = []
    subset: str = ""
    labels: dict[str, str] = {}


class Spec(Old):
    """The spec of a Policy or a MeshPolicy."""

    targets: list[TargetSelector] = []
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
    """A rule of a ServiceRole: the requests that it allows."""

    services: list[str] = []
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
    """A subject of a ServiceRoleBinding: the callers that get the role."""

    user: str = ""
    group: str = ""
    groups: list[str] = []
    properties: dict[str, str] = {}
    names: list[str] = []
    not_names: list[str] = []
    namespaces: list[str] = []
    not_namespaces: list[str] = []


class RoleRef(Old):
    """The ServiceRole that the binding grants."""

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


LEFT = ("kubectl.kubernetes.io/", "deployment.kubernetes.io/")  # annotations about the old object itself
KINDS: dict[str, type[Old]] = {
    "MeshPolicy": Spec,
    "Policy": Spec,
    "ServiceRole": Role,
    "ServiceRoleBinding": Binding,
    "ClusterRbacConfig": Config,
    "RbacConfig": Config,
}


@dataclass(frozen=True)
class Found:
    """An old object: its kind, name, namespace, and its spec as a model."""

    kind: str
    name: str
    namespace: str
    spec: Any  # the model that KINDS has for this kind
    metadata: Mapping[str, Mapping[str, str]]  # the labels and annotations that today's objects keep
    created: str = ""  # when the API server made it, "" if the file does not show that

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def read(manifest: Mapping, namespace: str) -> Found:
    """Return an object of the old API as data.

    Args:
        manifest: The object.
        namespace: The namespace of an object that names none.

    Raises:
        LegacyError: The object is not of the old API, or it has an unknown field.
    """
    api, kind, metadata = (
        str(manifest.get("apiVersion", "")),
        str(manifest.get("kind", "")),
        manifest.get("metadata") or {},
    )
    if not api.startswith(("authentication.istio.io/", "rbac.istio.io/")) or kind not in KINDS:
        raise LegacyError(
            f"{kind or 'an object without kind'} of {api or 'no apiVersion'} is not an old policy. Leave it out."
        )
    home = "" if kind in ("MeshPolicy", "ClusterRbacConfig") else metadata.get("namespace") or namespace
    if not home and kind not in ("MeshPolicy", "ClusterRbacConfig", "RbacConfig"):
        raise LegacyError("the object has no namespace. Write it into the metadata, or give --namespace.")
    if not metadata.get("name"):
        raise LegacyError("the object has no name. Write it into the metadata.")
    spec = checked(KINDS[kind], manifest.get("spec") or {}, "the old API")
    return Found(kind, metadata["name"], home, spec, _kept(metadata), str(metadata.get("creationTimestamp") or ""))


def checked(model: type[Model], content: Mapping, api: str) -> Model:
    """Return a content as its model; LegacyError that names the field which does not match."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise LegacyError(f"the field {where} does not match {api}: {first['msg']}. Correct the field.") from None


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the object's name before an error."""
    try:
        yield
    except LegacyError as error:
        raise LegacyError(f"{name}: {error}") from None


def check_once(keys: Iterable[tuple[str, str, str]]) -> None:
    """Raise LegacyError if a kind, namespace and name occur twice."""
    for (kind, namespace, name), times in Counter(keys).items():
        if times > 1:
            raise LegacyError(f"{kind} {name} occurs twice in {namespace or 'the mesh'}. Rename one, or remove it.")


def _kept(metadata: Mapping) -> dict[str, dict[str, str]]:
    labels, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
    kept = {"labels": dict(labels), "annotations": {k: v for k, v in notes.items() if not k.startswith(LEFT)}}
    return {key: value for key, value in kept.items() if value}
