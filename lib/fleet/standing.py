"""A fleet's Job on the control cluster: put it there, wait until it has ended, read why an index left no bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lib.bundle import signing_key
from lib.errors import RunbookError
from lib.fleet.model import Fleet, Round
from lib.kubernetes import manifests
from lib.kubernetes.cluster import Cluster
from lib.names import WATCH
from lib.params import ROOT
from lib.polling import until
from lib.printable import printable
from lib.run import Run
from lib.watch.standing import NoImage, require_image

MANIFEST = ROOT / "image" / "fleet.yaml"
ACCESS = ROOT / "image" / "access.yaml"  # its first object is the namespace
FILE, SIGNER, KEY = "fleet.json", "fleet-signer", "signing-key.pem"
TOKEN = "aws-iam-token"  # the volume of the token for AWS
START = 60  # seconds that a pod may take to start, in the deadline of the whole Job
PAUSE = 1  # seconds between two looks at the Job
INDEX = "batch.kubernetes.io/job-completion-index"
REASON = 500  # characters


def signer(run: Run, ensure: bool = True) -> Ed25519PublicKey:
    """Return the public key of the fleet's bundles; with `ensure`, make the namespace and the Secret first.

    The private key is made once, and stays in the Secret.
    """
    if ensure:
        run.apply(manifests.load(ACCESS)[:1])
        run.secret(SIGNER, WATCH, **{KEY: signing_key.new_pem})
    text = run.read_secret(SIGNER, WATCH, "make fleet")[KEY]
    key = load_pem_private_key(text.encode(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise RunbookError(f"The Secret {SIGNER} in {WATCH} holds no Ed25519 key. Delete it: make fleet makes another.")
    return key.public_key()


def start(run: Run, fleet: Fleet, one: Round, image: str) -> None:
    """Start the Job for the clusters of a round, or join the Job of this round that still runs.

    Raises:
        RunbookError: The Job of another round still runs.
    """
    if (job := _job(run.cluster, fleet.name)) and not _ended(job):
        running = _round(run.cluster, fleet.name)
        if running and running.round == one.round:
            return
        raise RunbookError(
            f"The fleet {fleet.name} still runs, in round {running.round if running else 'unknown'}. "
            f"Wait for its end, or delete it: kubectl -n {WATCH} delete job fleet-{fleet.name}."
        )
    for obj in manifests.ordered(objects(fleet, one, image)):
        if obj["kind"] == "Job":
            run.delete(obj)  # a Job never changes: the finished one goes
        run.apply([obj])


def objects(fleet: Fleet, one: Round, image: str) -> list[dict]:
    """Return the objects of a round's Job; the clusters of `one` are in the ConfigMap, in the order of the indexes."""
    waves = math.ceil(len(one.clusters) / fleet.parallelism)
    values = {
        "image": image,
        "completions": len(one.clusters),
        "whole": waves * (fleet.retries + 1) * (fleet.deadline + START),
        **fleet.model_dump(include={"name", "role_arn", "region", "parallelism", "retries", "deadline"}),
    }
    made = manifests.load(MANIFEST, **{name: str(value) for name, value in values.items()})
    if fleet.aws_endpoint_url:
        _use_endpoint(made[-1]["spec"]["template"]["spec"], fleet.aws_endpoint_url)
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": made[-1]["metadata"]}
    return [*made, {**config, "data": {FILE: one.model_dump_json()}}]


def wait_end(cluster: Cluster, name: str) -> None:
    """Wait until a fleet's Job has ended, by its own deadline at the latest.

    Raises:
        NoImage: a node cannot get the image.
    """
    began = cluster.get("batch/v1", "Job", f"fleet-{name}", WATCH)

    def ended() -> bool:
        require_image(cluster.items("v1", "Pod", WATCH, f"job-name=fleet-{name}"))
        job = _job(cluster, name)
        return not job or _ended(job)

    until(ended, deadline=began["spec"]["activeDeadlineSeconds"] + START, pause=PAUSE, reraise=(NoImage,))


def reasons(cluster: Cluster, name: str, round: str) -> dict[str, str]:
    """Return, for each cluster whose index of a round has not succeeded, why, as the Job and its pods say."""
    one, job = _round(cluster, name), _job(cluster, name)
    if not one or not job or one.round != round:
        return {}
    done = numbers(job.get("status", {}).get("completedIndexes", ""))
    pods: dict[str, list[dict]] = {}
    for pod in cluster.items("v1", "Pod", WATCH, f"job-name=fleet-{name}"):
        pods.setdefault((pod["metadata"].get("annotations") or {}).get(INDEX, ""), []).append(pod)
    late = _condition(job, "Failed").get("reason") == "DeadlineExceeded"
    gone = "the Job's time was over" if late else "its pod is gone" if _ended(job) else "it has not been started"
    left = {member.name: str(number) for number, member in enumerate(one.clusters) if number not in done}
    return {member: reason(pods.get(number, [])) or gone for member, number in left.items()}


def reason(pods: Sequence[Mapping]) -> str:
    """Return why the newest pod of an index ended, or what it waits for; "" without a pod."""
    if not pods:
        return ""
    status = max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])["status"]
    if status.get("reason"):  # Evicted, DeadlineExceeded, NodeLost, …
        return printable(f"{status['reason']}: {status.get('message', '')}".rstrip(": "), REASON)
    for one in status.get("containerStatuses", []):
        if ended := one["state"].get("terminated"):
            last = (ended.get("message") or "").strip().splitlines()[-1:]
            cause = "" if ended.get("reason") == "Error" else ended.get("reason", "")
            words = filter(None, (cause, *last))
            return printable(": ".join(words) or f"it ended with exit code {ended.get('exitCode')}", REASON)
        if waits := one["state"].get("waiting"):
            return printable(f"{waits.get('reason')}: {waits.get('message', '')}".rstrip(": "), REASON)
    unmet = [one.get("message") for one in status.get("conditions", []) if one["status"] == "False"]
    return printable(next(filter(None, unmet), "its pod still runs"), REASON)


def numbers(text: str) -> set[int]:
    """Return the indexes of a Job's status, such as 1,3-5.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/#JobStatus
    """
    ranges = [part.split("-") for part in text.split(",") if part]
    return {number for first, *last in ranges for number in range(int(first), int((last or [first])[0]) + 1)}


def _use_endpoint(pod: dict, url: str) -> None:
    """Let a pod use another AWS endpoint, whose certificate the control cluster's own CA signed."""
    (container,), (token,) = pod["containers"], [one for one in pod["volumes"] if one["name"] == TOKEN]
    (place,) = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == TOKEN]
    token["projected"]["sources"].append({"configMap": {"name": "kube-root-ca.crt"}})
    manifests.set_variable(container, "AWS_ENDPOINT_URL", value=url)
    manifests.set_variable(container, "AWS_CA_BUNDLE", value=f"{place}/ca.crt")


def _job(cluster: Cluster, name: str) -> dict | None:
    return cluster.find("batch/v1", "Job", f"fleet-{name}", WATCH)


def _round(cluster: Cluster, name: str) -> Round | None:
    found = cluster.find("v1", "ConfigMap", f"fleet-{name}", WATCH)
    return Round.model_validate_json(found["data"][FILE]) if found else None


def _condition(job: Mapping, kind: str) -> Mapping:
    found = job.get("status", {}).get("conditions", [])
    return next((one for one in found if one["type"] == kind and one["status"] == "True"), {})


def _ended(job: Mapping) -> bool:
    return bool(_condition(job, "Complete") or _condition(job, "Failed"))
