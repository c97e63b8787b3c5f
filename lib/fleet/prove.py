"""One index of a fleet's Job: ask one cluster, and leave a signed bundle in S3.

It changes nothing in the cluster. With `callers_image` it makes two pods there, and deletes them (lib.fleet.callers).
"""

from __future__ import annotations

import base64
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lib.aws import kubeconfig
from lib.aws import session as aws_session
from lib.bundle import archive, seal
from lib.errors import AwsError, BundleError, ClusterError, RunbookError
from lib.files import PRIVATE, write_atomic
from lib.fleet import callers
from lib.fleet.model import Member, Round
from lib.kubernetes.cluster import Cluster
from lib.names import WATCH
from lib.params import ROOT
from lib.probes.reporting import results, tables
from lib.probes.reporting.results import Result
from lib.probes.targets import remote
from lib.record import verdicts
from lib.record.events import Record, now
from lib.runner import environment
from lib.watch import prove as watch
from lib.watch import user_token

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STEP = "probes"  # of the bundle; a step without a notebook
QUICK: Any = {"connect_timeout": 5, "read_timeout": 20, "retries": {"mode": "standard", "max_attempts": 3}}  # seconds
USABLE = ("ACTIVE", "UPDATING")  # states of an EKS cluster whose API answers
# What an index takes from a cluster's ConfigMap. It never runs a command or opens a file that a cluster names.
MESH = ("url", "host", "issuer", "audience", "profile", "missing_token")
NO_WATCH = f"Run make watch against this cluster once: it leaves the ConfigMap mesh and the Secret user in {WATCH}."
NO_RIGHT = "Apply image/fleet-member.yaml to this cluster."
ADVICE = {403: NO_RIGHT, 404: NO_WATCH}  # by the status of the API's answer


@dataclass(frozen=True)
class Answers:
    """What a cluster answered, and which cluster it was; `secrets` must not be in the bundle."""

    found: Sequence[Result]
    facts: dict[str, str]
    secrets: frozenset[str] = field(default=frozenset(), repr=False)


Ask = Callable[[Member, Path], Answers]


def prove(one: Round, member: Member, ask: Ask, s3: S3Client, key: Ed25519PrivateKey, scratch: Path) -> str:
    """Ask a cluster, put its signed bundle into S3, and return a sentence about both.

    Args:
        one: The round.
        member: The cluster.
        ask: Sends the probes to the cluster; it may write files into a folder below `scratch`.
        s3: boto3's client for the bucket.
        key: Signs the bundle.
        scratch: A folder in memory that nobody else reads.

    Raises:
        RunbookError: The cluster could not be asked, or S3 did not take the bundle. S3 has no bundle of this index.
    """
    started, clock = now(), time.monotonic()
    answers = ask(member, scratch / "asked")
    file = bundle(one, member, answers, started, lambda: time.monotonic() - clock, key, scratch / "bundles")
    try:
        place = archive.upload(file, one.target, s3)
    except archive.Taken:
        return f"{one.target}/{file.name} exists: another index was first, and its bundle counts."
    return f"{tables.summary(answers.found)} {place}"


def bundle(
    one: Round,
    member: Member,
    answers: Answers,
    started: str,
    seconds: Callable[[], float],
    key: Ed25519PrivateKey,
    outputs: Path,
) -> Path:
    """Write what a cluster answered as a sealed bundle, packed as <cluster>.zip; return the zip's path.

    Args:
        one: The round.
        member: The cluster.
        answers: What it answered.
        started: The UTC time before it was asked, as in an event.
        seconds: Returns the seconds since then.
        key: Signs the bundle.
        outputs: The folder of the bundle and the zip.

    Raises:
        BundleError: The bundle does not verify, or cannot be written.
    """
    origin = environment.origin(ROOT)
    folder = seal.create(member.name, origin["commit"], datetime.now(UTC), outputs)
    record = Record(folder / "events" / f"{STEP}.jsonl")
    for secret in answers.secrets:
        record.secret(secret)
    record.write("step_started", step=STEP)
    for name, value in answers.facts.items():
        record.write("fact", key=name, value=value)
    for result in answers.found:
        row = results.to_row(result)
        record.write("response", **row, seconds=0.0, passed=verdicts.held(row["verdict"]))
    red = tables.red(answers.found)
    verdict = verdicts.worst([verdicts.PASS, *(result.verdict for result in red)])
    took = round(seconds(), 2)
    record.write("step_finished", verdict=verdict, seconds=took)
    step = {"step": STEP, "title": f"Probes of {member.name}", "verdict": verdict, "started": started, "seconds": took}
    about = {
        **environment.who(),
        "env": member.name,
        "command": "python -m lib.fleet index",
        "started": started,
        "finished": now(),
        "seconds": took,
        **origin,
        "params": params(one, member),
        "steps": [{**step, "error": watch.line(red[0]) if red else ""}],
    }
    seal.seal(folder, about, key, answers.secrets, one.authority)
    if reason := seal.incomplete(folder):
        raise BundleError(f"The record is incomplete: {reason}")
    return archive.pack(folder, outputs / f"{member.name}.zip", [key.public_key()])


def params(one: Round, member: Member) -> dict:
    """Return the params of a cluster's bundle, which the gatherer compares with those of the fleet."""
    return {"fleet": one.fleet, "round": one.round, "cluster": member.model_dump(exclude={"role_arn"})}


def ask(one: Round, member: Member, folder: Path) -> Answers:
    """Send the probes of lib.watch to a cluster, from outside, with this process's AWS identity.

    If the round has `callers_image`, send the probes between workloads too.
    """
    cluster, arn = connected(aws_session.session(member.region), member)
    file, secrets, inside = mesh(cluster, folder)
    found, facts = watch.send(file), {"cluster_arn": arn, "endpoint": cluster.host}
    if one.callers_image:
        more = callers.ask(cluster, one.callers_image, one.fleet, inside, remote.settings({}, file))
        names = {each.id for each in more}
        found = [*(each for each in found if each.id not in names), *more]
        facts["callers_image"] = one.callers_image
    return Answers(found, facts, secrets)


def connected(session: boto3.Session, member: Member) -> tuple[Cluster, str]:
    """Return a cluster's Kubernetes API, for the session or for the role of the cluster's own account; and its ARN.

    Raises:
        AwsError: STS or EKS refuses.
        ClusterError: EKS does not have the cluster, or its API does not answer yet.
    """
    if member.role_arn:
        session = assumed(session, member.role_arn, member.region)
    eks = aws_session.client(session, "eks", **QUICK)
    try:
        with aws_session.aws_errors():
            about = eks.describe_cluster(name=member.eks)["cluster"]
    except AwsError as error:
        if error.code != "ResourceNotFoundException":
            raise
        raise ClusterError(
            f"There is no EKS cluster {member.eks} in {member.region}. Correct the fleet's clusters if it is gone."
        ) from None
    if about["status"] not in USABLE:
        raise ClusterError(f"The EKS cluster {member.eks} is {about['status']}. Wait until it is ACTIVE.")
    bearer = kubeconfig.bearer(session, member.eks)
    return Cluster.of_token(about["endpoint"], about["certificateAuthority"]["data"], bearer), about["arn"]


def assumed(session: boto3.Session, role: str, region: str, endpoint_url: str | None = None) -> boto3.Session:
    """Return a session of a role for 15 minutes; `endpoint_url` is another STS endpoint than AWS's."""
    with aws_session.aws_errors():
        sts = aws_session.client(session, "sts", endpoint_url, **QUICK)
        made = sts.assume_role(RoleArn=role, RoleSessionName="runbook-fleet", DurationSeconds=900)["Credentials"]
    return boto3.Session(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"], region)


def mesh(cluster: Cluster, folder: Path) -> tuple[Path, frozenset[str], str]:
    """Write the params of the probes of `make watch`, and the user of their token.

    Returns:
        The file, the secrets, and the workload's URL inside the cluster, "" if an earlier `make watch` left none.
    """
    try:
        data = cluster.get("v1", "ConfigMap", "mesh", WATCH).get("data", {})
        user = cluster.get("v1", "Secret", "user", WATCH).get("data", {})
    except ClusterError as error:
        raise ClusterError(f"{error} {ADVICE.get(error.status, '')}".rstrip(), error.status) from None
    try:
        given = {name: value for name, value in yaml.safe_load(data["mesh.yml"]).items() if name in MESH}
        values = {name: base64.b64decode(user[name]).decode() for name in user_token.KEYS}
    except (KeyError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise RunbookError(
            f"The ConfigMap mesh or the Secret user is damaged ({type(error).__name__}). {NO_WATCH}"
        ) from None
    ca, file = folder / "ca.pem", folder / "mesh.yml"
    for name, value in values.items():
        write_atomic(folder / "user" / name, value, PRIVATE)
    if data.get("ca.pem"):
        write_atomic(ca, data["ca.pem"])
        given["ca"] = str(ca)
    command = [sys.executable, "-m", "lib.watch", "user-token", "--user", str(folder / "user"), "--mesh", str(file)]
    write_atomic(file, yaml.safe_dump({**given, "token_command": shlex.join(command)}))
    return file, frozenset({values["client-secret"], values["password"]}), data.get("inside", "")
