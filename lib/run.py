"""Run: the context of one step: its params, its cluster, its record. Notebooks use little else."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from lib import names, params
from lib.crypto import trust_store
from lib.errors import MissingStep, RedCheck
from lib.kubernetes import cluster as kubernetes_cluster
from lib.kubernetes import manifests
from lib.params import ROOT, Params
from lib.polling import PAUSE, until, watch
from lib.recent import Recent
from lib.record import evidence, verdicts, wait_events
from lib.record.check import Check, actions, failure, passed
from lib.record.events import Record
from lib.render import fenced

if TYPE_CHECKING:
    import boto3
    import pandas as pd  # imported where a table is made: commands without tables start sooner

MANIFESTS = ROOT / "notebooks" / "manifests"
ARTICLE = ROOT / "notebooks" / "article"
IMPATIENT = 15  # seconds
PUBLIC = ("username", "client-id")  # keys of Secrets whose values are names
CERTIFICATE = "-----BEGIN CERTIFICATE-----"  # what Secrets hold too and everybody may see
Ask: TypeAlias = Callable[[], object]
Why: TypeAlias = Callable[[], str] | None


class Run:
    """One step of the series. Checks record and go on; `finish`, the last cell, alone raises."""

    def __init__(self, step: str, values: Params, record: Record) -> None:
        self.step, self.params, self.record, self.recently = step, values, record, Recent()
        self.checks: list[Check] = []
        self.changes: list[dict] = []
        self.applied: dict[tuple[str, str, str | None, str], None] = {}  # keys alone, in their order
        self._began, self._reported = time.monotonic(), 0
        for file in filter(None, (values.authority_file, values.given_authority_file)):
            trust_store.add_file(file)
        self.record.write("step_started", step=step)

    @classmethod
    def open(cls, step: str, names: dict) -> Run:
        """Open a step with the parameters among `names` (a notebook's globals()): env, and what papermill injected."""
        import pandas as pd

        pd.set_option("display.max_colwidth", 400)
        pd.set_option("display.max_rows", 600)
        pd.set_option("display.colheader_justify", "left")
        given = {key: names[key] for key in Params.model_fields if key in names and key != "env"}
        made = cls(step, params.load(names["env"], given), Record.from_environment())
        watch(wait_events.Waiting(made.record, wait_events.in_notebook()))
        return made

    # The cluster and AWS

    @cached_property
    def cluster(self) -> kubernetes_cluster.Cluster:
        """The environment's Kubernetes API; raises MissingStep before step 01 made its kubeconfig."""
        if self.params.cluster_source == "existing":
            return kubernetes_cluster.Cluster.existing(self.params.kube_context)
        if not self.params.kubeconfig.exists():
            raise MissingStep("expected the kubeconfig of step 01, found none; run 01-cluster first.")
        from lib.aws import kubeconfig

        # The kubeconfig's own command would import this library once more
        bearer = kubeconfig.bearer(self._session, self.params.cluster_name, self.params.aws_endpoint_url)
        return kubernetes_cluster.Cluster.of_token(*kubeconfig.cluster_of(self.params.kubeconfig), bearer)

    def forget_cluster(self) -> None:
        """Read the kubeconfig again at the next use of `cluster`."""
        self.__dict__.pop("cluster", None)

    @cached_property
    def aws(self) -> Callable[[str], Any]:
        """Return what makes boto3's client of a service for the environment's AWS endpoint, once for each service."""
        from lib.aws import session as aws_session

        return cache(lambda service: aws_session.client(self._session, service, self.params.aws_endpoint_url))

    @cached_property
    def _session(self) -> boto3.Session:
        """One for all clients, so that credentials are looked for once."""
        from lib.aws import session as aws_session

        return aws_session.session(self.params.region, self.params.aws_profile, self.params.aws_credentials_file)

    @property
    def tags(self) -> dict[str, str]:
        """The tags that identify this environment's AWS objects."""
        return names.tags(self.params.cluster_name)

    @property
    def made_by(self) -> dict[str, str]:
        """The tag with the name of the bundle whose run made an object. Nothing reads it back."""
        path = self.record.path
        return {"Run": path.parent.parent.name if path else "by hand"}

    # Objects

    def load(self, file: str, **values: str) -> list[dict]:
        """Return the objects of notebooks/manifests/`file`, its ${names} filled from the params and `values`."""
        params = self.params.model_dump().items()
        texts = {key: str(value) for key, value in params if isinstance(value, (str, int))}
        return manifests.load(MANIFESTS / file, **{**texts, **values})

    def show(self, *objects: dict) -> None:
        """Show objects as the YAML that is applied, without Secrets' values."""
        _show(fenced("yaml", manifests.as_yaml(objects)))

    def show_json(self, value: dict) -> None:
        """Show the JSON that an API gets; it must hold no secret."""
        _show(fenced("json", json.dumps(value, indent=2)))

    def article(self, file: str) -> dict:
        """Show and return an object of the article, as its author wrote it for Istio 1.4."""
        text = (ARTICLE / file).read_text()
        _show(fenced("yaml", text))
        return yaml.safe_load(text)

    def apply(self, objects: list[dict]) -> pd.DataFrame:
        """Create or update objects in a working order; return each with its action: created, changed or unchanged."""
        for obj, action in self.cluster.apply_all(objects):
            metadata = obj["metadata"]
            self.changed(obj["kind"], metadata["name"], action, metadata.get("namespace", ""))
            self.applied[obj["apiVersion"], obj["kind"], metadata.get("namespace"), metadata["name"]] = None
        return self.recent()

    def changed(self, kind: str, name: str, action: str, namespace: str = "") -> None:
        """Record the action of an ensure_ function of AWS or Keycloak."""
        if action != "unchanged":
            self.recently.forget()
        row = {"kind": kind, "namespace": namespace, "name": name, "action": action}
        self.changes.append(row)
        self.record.write("change", **row)

    def delete(self, obj: dict) -> None:
        """Delete an object and record the action."""
        name, namespace = obj["metadata"]["name"], obj["metadata"].get("namespace")
        action = self.cluster.delete(obj["apiVersion"], obj["kind"], name, namespace)
        self.changed(obj["kind"], name, action, namespace or "")

    def secret(self, name: str, namespace: str, **make: Callable[[], str]) -> dict[str, str]:
        """Return the values of a Secret; `make` creates them on first use, and they are written nowhere else."""
        if self.cluster.find("v1", "Secret", name, namespace):
            self.changed("Secret", name, "unchanged", namespace)
        else:
            self.put_secret(name, namespace, **{key: maker() for key, maker in make.items()})
        return self.read_secret(name, namespace)

    def put_secret(self, name: str, namespace: str, **values: str) -> None:
        """Create a Secret or replace its values; redact them from now on."""
        self._redact(values)
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        metadata = {"name": name, "namespace": namespace}
        action = self.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
        self.changed("Secret", name, action, namespace)

    def read_secret(self, name: str, namespace: str, step: str = "") -> dict[str, str]:
        """Return the values of a Secret; redact them from now on. Without it, raise MissingStep, naming `step`."""
        secret = self.need("v1", "Secret", name, namespace, step=step)
        values = {key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}
        self._redact(values)
        return values

    def _redact(self, values: dict[str, str]) -> None:
        for key, value in values.items():
            if key not in PUBLIC and not value.startswith(CERTIFICATE):
                self.record.secret(value)

    def need(self, api_version: str, kind: str, name: str, namespace: str | None = None, step: str = "") -> dict:
        """Return an object that an earlier step made; without it, raise MissingStep, naming that step."""
        obj = self.cluster.find(api_version, kind, name, namespace)
        if obj is None:
            place = f" in namespace {namespace}" if namespace else ""
            raise MissingStep(f"No {kind} {name}{place}. Run {step or 'the steps before this one'} first.")
        return obj

    def recent(self) -> pd.DataFrame:
        """Return the changes of objects since the last call of `recent`."""
        import pandas as pd

        rows, self._reported = self.changes[self._reported :], len(self.changes)
        return pd.DataFrame(rows, columns=["kind", "namespace", "name", "action"])

    # Checks

    @property
    def patience(self) -> float:
        """Seconds that the next answer may take to hold; few, once one did not: the mesh has had its time by then."""
        return IMPATIENT if any(check.red for check in self.checks) else self.params.answer_deadline

    def check(self, name: str, expected: object, actual: object, reason: str = "") -> None:
        """Record whether `actual` equals `expected`."""
        self.keep(name, expected, actual, verdicts.of(expected == actual), reason=reason)

    def check_ready(self, name: str, expected: object, ask: Ask, streak: int = 1, **options: Any) -> None:
        """Like `check_until`, for as long as a part may take to start."""
        self.check_until(name, expected, ask, streak, deadline=self.params.deadline, **options)

    def check_until(
        self,
        name: str,
        expected: object,
        ask: Ask,
        streak: int = 1,
        reason: str = "",
        why: Why = None,
        deadline: float | None = None,
        pause: float = PAUSE,
        hopeless: Callable[[], bool] | None = None,
    ) -> None:
        """Ask until the answer is `expected` `streak` times in a row; record it with its seconds.

        A red check's reason includes the text that `why` returns. `deadline` is `patience` by default, and `hopeless`
        is that of lib.polling.until.
        """
        deadline = self.patience if deadline is None else deadline
        options: dict[str, Any] = dict(streak=streak, deadline=deadline, what=name, pause=pause, hopeless=hopeless)
        answer = until(ask, lambda value: value == expected, **options)
        actual = str(answer.value) if not answer.error else answer.error
        verdict = verdicts.of(answer.held, bool(answer.error))
        reasons = "; ".join(filter(None, (reason, why() if why and not answer.held else "")))
        self.keep(name, expected, actual, verdict, answer.seconds, answer.tries, reasons)

    def skip(self, name: str, expected: object, reason: str) -> None:
        """Record a check that this environment cannot make, and the reason."""
        self.keep(name, expected, "", verdicts.SKIPPED, reason=reason)

    def keep(
        self,
        name: str,
        expected: object,
        actual: object,
        verdict: str,
        seconds: float = 0.0,
        tries: int = 1,
        reason: str = "",
        response: dict | None = None,
    ) -> Check:
        """Record a check, waived if the params waive it; with a `response`'s columns, as a response event."""
        verdict, waiver = verdicts.waived(verdict, self.step, name, self.params.waivers)
        note = "; ".join(filter(None, (waiver, reason)))
        check = Check(name, str(expected), str(actual), verdict, seconds, tries, note)
        self.checks.append(check)
        row = check.row()
        if response:
            about = {key: row[key] for key in ("verdict", "passed", "seconds", "tries")}
            self.record.write("response", **{**about, "note": note, **response})
        else:
            self.record.write("check", **row)
        return check

    def table(self) -> pd.DataFrame:
        """Return the checks so far."""
        import pandas as pd

        shown = [check for check in self.checks if check.verdict != verdicts.SKIPPED]
        rows = [{"": verdicts.MARKS[check.verdict], **check.row()} for check in shown]
        return pd.DataFrame(rows, columns=["", "name", "expected", "actual", "seconds", "tries", "reason"])

    def fact(self, key: str, value: object) -> None:
        """Record a fact of this environment: a version, an identity, the emulated parts."""
        self.record.write("fact", key=key, value=value)

    def finish(self) -> pd.DataFrame:
        """Close the step: return its checks; raise RedCheck, after everything is written, if a check is red."""
        self._read_back()
        red = [check for check in self.checks if check.red]
        seconds = round(time.monotonic() - self._began, 2)
        verdict = verdicts.worst([verdicts.PASS, *(check.verdict for check in red)])
        self.record.write("step_finished", verdict=verdict, seconds=seconds)
        table = self.table()
        if red:
            _show(table)
            raise RedCheck(f"{self.step}: {failure(self.checks)}.")
        _show(f"**{passed(self.checks)}** in {seconds:.1f} s; {actions(self.changes)}.")
        return table

    def _read_back(self) -> None:
        """Keep the applied objects as the API has them; a notebook that runs by hand does not need that."""
        if self.record.path and (text := evidence.live(self.cluster, self.applied) if self.applied else ""):
            self.record.evidence(f"objects/{self.step}.yaml", text)


def _show(what: str | pd.DataFrame) -> None:
    from IPython.display import Markdown, display

    display(Markdown(what) if isinstance(what, str) else what)
