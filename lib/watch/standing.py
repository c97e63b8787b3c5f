"""A watch from outside: put its CronJob into the cluster, wait for its first run, take it away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from lib.errors import RunbookError
from lib.kubernetes import manifests
from lib.names import WATCH
from lib.params import ROOT
from lib.polling import wait
from lib.run import Run
from lib.steps import callers, endpoints, tokens
from lib.watch import prove, reports
from lib.watch.proofs import Proofs

OUTPUTS = ROOT / "outputs" / "watch"
MANIFEST = ROOT / "image" / "watch.yaml"
CRON_JOB = ("batch/v1", "CronJob", "watch", WATCH)
FIRST = "watch-first"  # the Job that does not wait for the schedule
DEADLINE = 300  # seconds for that Job: the activeDeadlineSeconds of watch.yaml
CA = "/mesh/ca.pem"
NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName")


class NoImage(RunbookError):
    """A node cannot get the image of the runbook."""


def put(run: Run, image: str, schedule: str, hours: float) -> None:
    """Put the watch of httpbin's policy into the cluster, or change it to these values.

    Args:
        run: The environment. The steps up to 12 have run there.
        image: The image of the runbook (docs/image.md).
        schedule: When the probes are sent, in cron's form, by UTC.
        hours: The age at which a proof is stale.
    """
    files = filter(None, (run.params.authority_file, run.params.given_authority_file))
    authority = "".join(file.read_text() for file in files if file.is_file())
    mesh = {"mesh.yml": yaml.safe_dump(_mesh(run, CA if authority else "")), "ca.pem": authority}
    mesh["inside"] = f"http://httpbin.{run.params.namespace}:8000"  # for a fleet's callers
    namespace, *objects = manifests.load(MANIFEST, image=image, schedule=schedule, hours=f"{hours:g}")
    run.apply([namespace])
    run.put_secret("user", WATCH, **_user(run))
    if not run.cluster.find("v1", "ConfigMap", prove.CONFIG_MAP, WATCH):
        run.apply([prove.config_map()])
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mesh", "namespace": WATCH}, "data": mesh}
    run.apply([config, *objects])


def run_now(run: Run) -> Proofs:
    """Send the probes at once, as the CronJob will; return the proofs when the Job has ended.

    Raises:
        RunbookError: the node does not have the image, or the Job ended and left no proof.
        TimedOut: the Job did not end.
    """
    template = run.cluster.get(*CRON_JOB)["spec"]["jobTemplate"]
    metadata = {"name": FIRST, "namespace": WATCH}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}
    before = prove.read(run.cluster).runs
    run.delete(job)
    run.apply([job])
    wait("the first run of the probes to end", lambda: _ended(run), deadline=DEADLINE, reraise=(RunbookError,))
    proofs = prove.read(run.cluster)
    if proofs.runs == before:
        raise RunbookError(f"The Job {FIRST} left no proof. See: kubectl -n {WATCH} logs job/{FIRST}.")
    run.delete(job)
    return proofs


def report(run: Run, hours: float, outputs: Path = OUTPUTS) -> tuple[list[dict], str, list[Path]]:
    """Write the proofs as a page and as metrics; return each control's row, the last run's note, and both files.

    The files are in the folder of the environment below `outputs`.

    If the probes were never sent, send them now.
    """
    kept = prove.read(run.cluster)
    kept = kept if kept.runs else run_now(run)
    now, stale_after, folder = datetime.now(UTC), timedelta(hours=hours), outputs / run.params.env
    folder.mkdir(parents=True, exist_ok=True)
    page, metrics = folder / "index.html", folder / prove.METRICS
    page.write_text(reports.page(kept, run.params.env, now, stale_after), encoding="utf-8")
    metrics.write_text(reports.metrics(kept, stale_after), encoding="utf-8")
    return kept.rows(now, stale_after), kept.runs[-1].note, [page, metrics]


def take_away(run: Run) -> None:
    """Delete the namespace of the watch with all that is in it."""
    run.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": WATCH}})


def require_image(pods: Iterable[Mapping]) -> None:
    """Raise NoImage if a node cannot get the image of one of these pods, which would wait for it forever."""
    for one in (one for pod in pods for one in pod["status"].get("containerStatuses", [])):
        waiting = one["state"].get("waiting", {})
        if waiting.get("reason") in NO_IMAGE:
            raise NoImage(
                f"The node cannot get the image {one['image']}: {waiting.get('message', waiting['reason'])}. "
                "Run make image on the sandbox, or name an image of your registry with IMAGE=."
            )


def _ended(run: Run) -> bool:
    """Return whether the pod of the Job FIRST has ended."""
    pods = run.cluster.items("v1", "Pod", WATCH, f"job-name={FIRST}")
    require_image(pods)
    return any("terminated" in one["state"] for pod in pods for one in pod["status"].get("containerStatuses", []))


def _mesh(run: Run, ca: str) -> dict:
    """Return the params of the probes: httpbin as a user reaches it, in the policies of Figure 2."""
    user = callers.caller(run, "user", "httpbin")
    return {
        "url": user.url,
        "host": user.host,
        "ca": ca,
        "issuer": endpoints.issuer(run),
        "audience": run.params.client_id,
        "profile": "figure-2",
        "missing_token": run.params.missing_token,
        "token_command": "python3 -m lib.watch user-token",
    }


def _user(run: Run) -> dict[str, str]:
    """Return the client and the user whose token the probes forge from: the keys of lib.watch.user_token."""
    params = run.params
    return {
        "client": params.client_id,
        "client-secret": tokens.client_secret(run, params.client_id),
        "username": params.user,
        "password": tokens.password(run),
    }
