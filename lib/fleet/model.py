"""A fleet's params, params/fleet.yml; and a round: what the pods of one Indexed Job get of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cryptography import x509
from pydantic import BaseModel, ConfigDict, Field, model_validator

from lib.aws import session as aws_session
from lib.bundle import archive
from lib.bundle.time_stamp import Authority
from lib.crypto import certificates
from lib.errors import BundleError, ParamsError
from lib.fleet import contexts
from lib.kubernetes import kubectl
from lib.params import problems, yaml_loader
from lib.params.model import DnsLabel

if TYPE_CHECKING:
    from mypy_boto3_eks import EKSClient

STRICT = ConfigDict(extra="forbid", frozen=True)
ROUND, NAME = r"[0-9A-Za-z][-0-9A-Za-z_.]{0,39}", r"[0-9A-Za-z][-0-9A-Za-z_]{0,99}"
RoundName = Annotated[str, Field(pattern=f"^{ROUND}$")]
Name = Annotated[str, Field(pattern=f"^{NAME}$")]  # of a cluster
Region = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d+$")]
RoleArn = Annotated[str, Field(pattern=r"^arn:aws[-a-z]*:iam::\d{12}:role/[\w+=,.@/-]+$")]


class Member(BaseModel):
    """A cluster of the fleet."""

    model_config = STRICT

    name: Name = Field(description="its name in the fleet")
    eks: Name = Field(description="its name in EKS")
    region: Region
    role_arn: RoleArn | None = Field(None, description="a role to assume first: the cluster is in another account")


class Fleet(BaseModel):
    """The values of params/fleet.yml. No secret is among them: the pods' rights are those of a role."""

    model_config = STRICT

    name: Annotated[DnsLabel, Field(max_length=40)] = Field(description="the fleet's name, and that of its Job")
    control: str = Field(description="the environment whose cluster runs the Job: a file in params/, without .yml")
    bucket: str = Field(description="where the bundles are put: s3://bucket/prefix; the keys go on with the name")
    role_arn: RoleArn = Field(description="the role of the Job's pods: docs/fleet.md has its rights")
    region: Region = Field("us-east-1", description="of the bucket")
    aws_endpoint_url: str | None = Field(
        None,
        description="an AWS endpoint for the pods other than Amazon's own, that the control cluster's CA vouches for",
    )
    parallelism: Annotated[int, Field(ge=1, le=100)] = Field(10, description="clusters that are asked at once")
    retries: Annotated[int, Field(ge=0, le=10)] = Field(1, description="further tries for a cluster")
    deadline: Annotated[int, Field(ge=30, le=840)] = Field(
        300, description="seconds for one cluster; its token lasts 15 minutes"
    )
    callers_image: str | None = Field(
        None, description="an image with curl: an index also asks from two pods of it; empty: it creates nothing"
    )
    late_after: Annotated[float, Field(gt=0, le=8760)] = Field(26, description="hours; an older proof is late")
    clusters: list[Member] = Field([], description="the clusters: name, eks and region or context, role_arn")
    by_tag: dict[str, str] = Field({}, description="further clusters: those with all of these tags, in `regions`")
    regions: list[Region] = []
    accounts: list[RoleArn] = Field([], description="roles of further accounts with clusters that have these tags")

    @model_validator(mode="after")
    def _values_that_fit_each_other(self) -> Fleet:
        repeated = _repeated(self.clusters)
        found = [f"expected each name in clusters once, got {name} again; rename it" for name in repeated]
        if bool(self.by_tag) != bool(self.regions):
            found.append("expected by_tag and regions together, got one of them; add the other")
        if self.accounts and not self.by_tag:
            found.append("expected by_tag with accounts, got none; add it, or give each cluster its role_arn")
        if not self.clusters and not self.by_tag:
            found.append("expected clusters or by_tag, got neither; list the clusters")
        try:
            archive.bucket_and_key(self.bucket, "x")
        except BundleError as error:
            found.append(f"bucket: {error}")
        if found:
            raise ValueError("\n".join(found))
        return self


class Round(BaseModel):
    """One time that a fleet is asked: fleet.json of the ConfigMap. `clusters` are in the order of the indexes."""

    model_config = STRICT

    fleet: str
    round: RoundName = Field(description="by default the UTC date; later rounds sort later")
    bucket: str
    region: str
    clusters: list[Member]
    callers_image: str | None = None
    time_stamp_url: str | None = Field(None, description="the authority of the control cluster's params")
    time_stamp_ca: str = Field("", description="its root certificates, as PEM")

    @property
    def authority(self) -> Authority | None:
        """The time-stamping authority of the bundles, if they have one."""
        url = self.time_stamp_url
        return Authority(url, x509.load_pem_x509_certificates(self.time_stamp_ca.encode())) if url else None

    @property
    def place(self) -> str:
        """The S3 address of the bundles of all rounds; another fleet below the same prefix has another."""
        return f"{self.bucket.rstrip('/')}/{self.fleet}"

    @property
    def target(self) -> str:
        """The S3 address of the round's bundles."""
        return f"{self.place}/{self.round}"


def round_of(fleet: Fleet, name: str, clusters: list[Member], authority: Authority | None = None) -> Round:
    """Return a round of a fleet, whose bundles `authority` stamps with the time."""
    about = fleet.model_dump(include={"bucket", "region", "callers_image"})
    about |= {"fleet": fleet.name, "round": name, "clusters": clusters}
    if authority:
        about |= {"time_stamp_url": authority.url, "time_stamp_ca": "".join(map(certificates.pem, authority.roots))}
    return Round(**about)


def load(path: Path, kubeconfigs: Sequence[Path] | None = None) -> Fleet:
    """Return the fleet of a params file; ParamsError lists every problem, one a line.

    The contexts of clusters are those of `kubeconfigs`, by default the files that kubectl reads.
    """
    if not path.is_file():
        raise ParamsError(f"There is no fleet in {path}. Name a file as params/fleet.yml with FLEET=.")
    values = yaml_loader.read(path, str(path))
    if isinstance(values.get("clusters"), list):
        values["clusters"] = contexts.resolved(values["clusters"], kubeconfigs or kubectl.kubeconfigs())
    if found := problems.of_values(Fleet, values):
        raise ParamsError("\n".join(f"{path}: {problem}{'' if problem[-1] in '?.' else '.'}" for problem in found))
    return Fleet(**values)


def members(fleet: Fleet, eks: Callable[[str, str | None], EKSClient]) -> list[Member]:
    """Return the clusters of a fleet, those that EKS finds by tag too, sorted by name.

    A cluster that only its tags find is named <region>-<its name in EKS>, in another account <account>-<region>-<…>.

    Args:
        fleet: The params.
        eks: Returns a boto3 client for a region and a role of another account, if any.

    Raises:
        AwsError: EKS refuses to list or to describe clusters.
        ParamsError: A found cluster has the name of a listed one, or there is none.
    """
    listed = {(_account(one.role_arn), one.region, one.eks) for one in fleet.clusters}
    found = list(fleet.clusters)
    for role, region in product((None, *fleet.accounts), fleet.regions):
        client, account = eks(region, role), _account(role)
        with aws_session.aws_errors():
            for name in aws_session.paginate(client, "list_clusters", "clusters"):
                if (account, region, name) in listed:
                    continue
                tags = client.describe_cluster(name=name)["cluster"].get("tags", {})
                if fleet.by_tag.items() <= tags.items():
                    full = "-".join(filter(None, (account, region, name)))[:100]
                    found.append(Member(name=full, eks=name, region=region, role_arn=role))
    if repeated := _repeated(found):
        raise ParamsError(f"expected each cluster's name once, got {repeated[0]} again; rename it in clusters.")
    if not found:
        raise ParamsError(f"expected clusters with the tags {fleet.by_tag}, found none; correct by_tag or regions.")
    return sorted(found, key=lambda one: one.name)


def _account(role: str | None) -> str:
    """Return the account of a role, "" without a role."""
    return role.split(":")[4] if role else ""


def _repeated(clusters: list[Member]) -> list[str]:
    return [name for name, times in Counter(one.name for one in clusters).items() if times > 1]
