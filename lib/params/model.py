"""Params: what differs between environments, strictly read from params/<env>.yml."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lib.errors import ParamsError
from lib.params import database, eks, load_balancer, network, problems, yaml_loader
from lib.params.eks import AccessEntry, AddOn, AddOnName, Ami, KeyArn, Log, Taint
from lib.params.waiver import Waiver

ROOT = Path(__file__).resolve().parents[2]
FLEET = "fleet"  # params/fleet.yml lists clusters, and is no environment

DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Host = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$")]
CertificateArn = Annotated[str, Field(pattern=r"^arn:aws[-a-z]*:acm:[-a-z0-9]+:\d{12}:certificate/.+$")]


class Params(BaseModel):
    """The values of one environment. Secrets are never among them: papermill writes parameters into the notebook."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    env: DnsLabel = Field(description="the environment's name, equal to the file's name")

    # Where the cluster comes from
    cluster_source: Literal["eks", "existing"] = Field(
        description="create it through the EKS API, or take a kubeconfig's"
    )
    cluster_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9_]{0,99}$")] = "runbook"
    kube_context: str | None = Field(None, description="existing: the kubeconfig context; empty is the current one")

    # AWS
    region: str = "us-east-1"
    account_id: Annotated[str, Field(pattern=r"^\d{12}$")] | None = Field(
        None, description="the AWS account that is meant; in another one nothing is written"
    )
    aws_endpoint_url: str | None = Field(None, description="an AWS endpoint other than Amazon's own: the sandbox's")
    aws_profile: str | None = Field(None, description="the profile of the shared credentials file")
    aws_credentials_file: str | None = Field(
        None, description="a shared credentials file other than ~/.aws/credentials"
    )
    kubernetes_version: Annotated[str, Field(pattern=r"^1\.\d+$")] = "1.36"
    node_instance_type: str = "m5.large"
    node_count: Annotated[int, Field(ge=1, le=10)] = 2

    # The nodes
    node_min: Annotated[int, Field(ge=0, le=10)] | None = Field(None, description="the fewest; empty is node_count")
    node_max: Annotated[int, Field(ge=1, le=10)] | None = Field(None, description="the most; empty is node_count")
    node_other_types: list[str] = Field([], description="further instance types that will do: SPOT wants several")
    node_ami_type: Ami = "AL2023_x86_64_STANDARD"
    node_capacity: Literal["ON_DEMAND", "SPOT"] = Field(
        "ON_DEMAND", description="SPOT costs less, and AWS takes it back with two minutes' notice"
    )
    node_disk_gib: Annotated[int, Field(ge=20, le=1000)] = Field(20, description="of each node: gp3, encrypted")
    node_labels: dict[str, str] = {}
    node_taints: list[Taint] = []

    # The network: a VPC that is made, or subnets that are there
    vpc_cidr: str = "10.0.0.0/16"
    vpc_zones: Annotated[int, Field(ge=2, le=3)] = Field(2, description="zones of the VPC that is made")
    nat: Literal["none", "single", "per-zone"] = Field(
        "none", description="none: nodes in public subnets; else in private ones, with one NAT gateway, or one a zone"
    )
    subnet_ids: list[Annotated[str, Field(pattern=r"^subnet-[0-9a-f]+$")]] = Field(
        [], description="subnets that are there: no VPC is made then, and nothing of theirs is changed"
    )
    subnet_tags: dict[str, str] = Field({}, description="the same, by tags that they all have")

    # The cluster in EKS
    endpoint_public_access: bool = Field(True, description="the cluster's API has an address on the Internet")
    endpoint_private_access: bool = Field(True, description="it has one within the VPC: nodes use that")
    public_access_cidrs: list[str] | None = Field(
        None, description="networks from which the public one may be reached; on a real account they must be said"
    )
    control_plane_logs: list[Log] = Field([], description="what goes to CloudWatch, which costs by the GB")
    secrets_kms_key_arn: KeyArn | None = Field(
        None, description="a KMS key that encrypts Secrets; it can be given later, never changed or taken away"
    )
    access_entries: list[AccessEntry] = Field(
        [], description="who else may use the cluster's API: principal_arn, policy, scope, groups"
    )
    addons: dict[AddOnName, AddOn] = Field(
        {}, description="EKS's add-ons: default, latest, a version, or version and configuration"
    )

    delete_log_group: bool = Field(False, description="the clean-up deletes the control plane's log group as well")

    # The record
    witness: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="a file, git:repository or s3://bucket/prefix for each run's digest, where nobody can change it",
    )

    time_stamp_url: Annotated[str, Field(pattern=r"^https?://[\w.:\[\]-]+(/[\w.~%/+-]*)?$")] | None = Field(
        None, description="a time-stamping authority (RFC 3161), which attests when the record existed at the latest"
    )
    time_stamp_ca_file: str | None = Field(None, description="its root certificate, as PEM")

    # Encryption on the user's way
    tls: Literal["own-ca", "given", "off"] = Field("own-ca", description="whose certificates gateways show, if any")
    keycloak_host: Host | None = Field(
        None, description="Keycloak's public name, and so the issuer's; empty is its load balancer's address"
    )
    gateway_host: Host | None = Field(None, description="the gateway's public name; empty is its address")
    ca_file: str | None = Field(None, description="given: the authority's certificate, where it is no public one")

    # Istio
    istioctl: str = Field("istioctl", description="the istioctl to call: a name on PATH or a file")
    istio_hub: str = "docker.io/istio"
    istio_tag: str
    istio_settings: list[str] = Field([], description="further key=value settings for istioctl")
    gateway_api: Literal["istio", "gateway-api"] = Field(
        "istio",
        description="whose kinds make the gateways: Istio's Gateway and VirtualService, or Gateway and HTTPRoute",
    )
    gateway_api_crds: str | None = Field(
        None,
        description="gateway-api: a file or folder with its CRDs, which step 02 applies; empty: they exist already",
    )

    # Keycloak
    keycloak_image: str
    keycloak_replicas: Annotated[int, Field(ge=1, le=9)] = Field(1, description="pods that share their sessions")
    keycloak_database: Annotated[str, Field(pattern=r"^jdbc:postgresql://[^\s?]+(\?\S*)?$")] | None = Field(
        None, description="a PostgreSQL of your own (RDS), its user and password in keycloak/keycloak-external-db"
    )
    keycloak_database_ca_file: str | None = Field(None, description="who signs that one's certificate, as PEM")
    keycloak_command: list[str] = Field(["start"], description="what the image's kc.sh is started with")
    postgres_image: str
    storage_class: str | None = Field(None, description="for PostgreSQL's volume; empty is the cluster's default")
    realm: DnsLabel = "istio"
    client_id: DnsLabel = "istio"
    user: DnsLabel = "alice"

    # The way in
    load_balancer_controller: Literal["aws-load-balancer-controller", "in-tree"] | None = Field(
        None, description="what makes network load balancers of AWS in this cluster; empty where it is none of these"
    )
    load_balancer_scheme: Literal["internet-facing", "internal"] = Field(
        "internet-facing", description="the article's users come from outside; internal is for those of the VPC alone"
    )
    load_balancer_target_type: Literal["ip", "instance"] | None = Field(
        None, description="pods or nodes; empty is what the controller does best"
    )
    load_balancer_source_ranges: list[str] = Field([], description="networks that may connect; empty is everybody")
    acm_certificate_arn: CertificateArn | None = Field(
        None, description="TLS ended by the load balancer on port 443, and encrypted again to the pods"
    )
    load_balancer_tls_policy: str = Field(
        "ELBSecurityPolicy-TLS13-1-2-2021-06", description="which TLS the load balancer speaks with clients"
    )
    load_balancer_proxy_protocol: bool = Field(
        False, description="the client's address comes in a PROXY header: gateways take nothing else then"
    )
    load_balancer_preserve_client_ip: bool | None = Field(
        None, description="the client's address stays on the connection; empty is AWS's default, by target type"
    )
    load_balancer_cross_zone: bool = False
    load_balancer_idle_seconds: Annotated[int, Field(ge=60, le=6000)] | None = Field(
        None, description="after which a quiet connection is forgotten; empty is AWS's 350"
    )
    load_balancer_health_seconds: Annotated[int, Field(ge=5, le=300)] | None = Field(
        None, description="between two health checks; empty is the controller's default"
    )
    external_traffic_policy: Literal["Cluster", "Local"] | None = Field(
        None, description="Local: only nodes with such a pod take requests, and the client's address stays"
    )
    trusted_proxies: Annotated[int, Field(ge=0, le=10)] = Field(
        0, description="proxies before the gateway that add to X-Forwarded-For; a network load balancer does not"
    )
    load_balancer_annotations: dict[str, str] = Field(
        {}, description="further annotations of the Services of type LoadBalancer"
    )

    # Workloads
    namespace: DnsLabel = "foo"
    httpbin_image: str
    sleep_image: str
    missing_token: Literal[403, 401] = Field(403, description="the answer to a user without a token; 401: a challenge")

    # The login of people with a browser (step 13)
    login_engine: Literal["envoy", "oauth2-proxy", "none"] = Field(
        "envoy",
        description="what turns a login into a token: the OAuth 2.0 filter of a gateway's Envoy, or oauth2-proxy, an "
        "external authorizer; none: no login",
    )
    oauth2_proxy_image: str = "quay.io/oauth2-proxy/oauth2-proxy:v7.15.6"
    deny_list_image: str = Field(
        "",
        description="step 14: refuses the tokens of ended sessions; build it of sandbox/build/deny_list; empty: none",
    )
    redis_image: str = Field("docker.io/library/redis:7.0", description="where oauth2-proxy keeps sessions")
    login_host: Host | None = Field(None, description="the application's public name; empty is its address")

    # Roles (step 15)
    role_engines: Annotated[list[Literal["mesh", "opa", "cel"]], Field(min_length=1)] = Field(
        ["mesh", "opa", "cel"], description="what decides by roles: the mesh alone, or an authorizer by OPA or CEL"
    )
    authorizer_image: str | None = Field(
        None, description="the image of sandbox/build/authorizer, for opa and cel; empty: the mesh decides alone"
    )

    # Probes
    profiles: Annotated[list[Literal["figure-2", "figure-1", "hardened"]], Field(min_length=1)] = Field(
        ["figure-2", "figure-1", "hardened"], description="the policies that step 12 sends every probe to"
    )

    # Checks
    streak: Annotated[int, Field(ge=1, le=50)] = Field(5, description="equal answers in a row that make an answer")
    deadline: Annotated[int, Field(ge=5, le=3600)] = Field(180, description="seconds that a part may take to be ready")
    answer_deadline: Annotated[int, Field(ge=5, le=600)] = Field(
        90, description="seconds until an answer must hold: policies flap for up to 45, Envoy grants expired tokens 60"
    )
    waivers: list[Waiver] = Field(
        [], description="failures that somebody answers for: step, check, owner, expires, reason"
    )

    @model_validator(mode="after")
    def _values_that_fit_each_other(self) -> Params:
        checks = (load_balancer.problems, load_balancer.certificate_problems, network.problems, database.problems)
        found = [problem for check in (*checks, eks.problems) for problem in check(self)]
        if self.cluster_source == "existing" and self.aws_endpoint_url:
            found.insert(0, "aws_endpoint_url is for cluster_source: eks; remove it")
        if bool(self.time_stamp_url) != bool(self.time_stamp_ca_file):
            found.append("time_stamp_url and time_stamp_ca_file need each other; add the missing one")
        if found:
            raise ValueError("\n".join(found))
        return self

    @property
    def authority_file(self) -> Path:
        """Where step 02 writes the certificate of the environment's own authority: it is public, `--cacert` of curl."""
        return ROOT / ".kube" / f"{self.env}-ca.pem"

    @property
    def given_authority_file(self) -> Path | None:
        """Where the certificate of the authority is that signed what is given; None where it is a public one."""
        return ROOT / Path(self.ca_file).expanduser() if self.ca_file else None

    @property
    def kubeconfig(self) -> Path:
        """Where step 01 writes this environment's kubeconfig (it names a token command, it holds no secret)."""
        return ROOT / ".kube" / self.env


def load(
    env: str,
    overrides: dict | None = None,
    folder: Path = ROOT / "params",
    environment: Mapping[str, str] = os.environ,
) -> Params:
    """Return the Params of `folder`/`env`.yml with `overrides` on top; ParamsError lists every problem, one a line.

    ${NAME:-default} in a value is filled from `environment`, as a shell does.
    """
    path = folder / f"{env}.yml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yml") if p.stem != FLEET))
        raise ParamsError(
            f"params: expected an environment among {known}, got {env!r}; name one, or write {_short(path)}."
        )
    values = yaml_loader.read(path, _short(path))
    given = {key: _filled(value, environment) for key, value in {**values, **(overrides or {})}.items()}
    found = problems.of_values(Params, given)
    if values.get("env") != env:
        found.insert(0, f"expected env: {env} (the file's name), got {values.get('env')!r}; make them equal")
    if found:
        raise ParamsError(
            "\n".join(f"{_short(path)}: {problem}{'' if problem[-1] in '?.' else '.'}" for problem in found)
        )
    return Params(**given)


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    if not isinstance(value, str):
        return value
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: environment.get(found[1]) or found[2], value)


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
