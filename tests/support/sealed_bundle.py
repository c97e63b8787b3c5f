"""A small sealed bundle for the tests of modules that read bundles."""

from __future__ import annotations

from datetime import UTC, datetime

from lib.bundle import seal
from lib.record.events import Record
from tests.support.tiny import KEY, write_notebook

AT = "2026-01-31T12:00:02.000Z"
NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
ABOUT = {
    "user": "alice", "host": "box", "env": "tiny", "command": "run", "commit": "a" * 40, "dirty": False,
    "started": "2026-01-31T12:00:00.000Z", "finished": "2026-01-31T12:00:10.000Z", "seconds": 10.0,
    "params": {"env": "tiny", "streak": 5}, "versions": {"python": "3"}, "requirements_lock_sha256": "b" * 64,
}  # fmt: skip


def answer(figure, got, expected):
    return dict(
        figure=figure, request="/ip", caller="sleep", token="none", expected=expected, got=got, reason="RBAC: <denied>",
        latency_ms=1.5, seconds=0.2, tries=5, verdict="pass" if got == expected else "fail", passed=got == expected,
    )  # fmt: skip


def step(name, verdict="pass", error=""):
    return {
        "step": name, "title": name, "verdict": verdict, "started": "2026-01-31T12:00:01.000Z" * (verdict != "not run"),
        "seconds": 2.0, "error": error,
    }  # fmt: skip


def sealed(tmp_path, verdict="pass", secrets=frozenset(), now=NOW, key=KEY, evidence=False, authority=None):
    """Return the folder of a sealed run of one step (and one not run), and its run.json."""
    folder = seal.create("tiny", "a" * 40, now, tmp_path)
    record = Record(folder / "events" / "01-a.jsonl", clock=lambda: AT)
    record.write("step_started", step="01-a")
    record.write("change", kind="Namespace", namespace="", name="foo", action="created")
    record.write("change", kind="Service", namespace="foo", name="httpbin", action="unchanged")
    ready = dict(name="ready", expected="1", actual="1", verdict="pass", passed=True, seconds=0.1, tries=1, reason="")
    record.write("check", **ready)
    record.write("response", **answer("Figure 2", 403, 403))
    record.write("response", **answer("Figure 1", 200, 200 if verdict == "pass" else 403))
    record.write("token", name="valid", fingerprint="0" * 16, lifetime=300, aud="istio")
    record.write("fact", key="istiod", value="1.31")
    record.write("fact", key="cluster_arn", value="arn:aws:eks:r:0:cluster/c")
    record.write("fact", key="real", value=["Kubernetes", "Envoy"])
    record.write("fact", key="emulated", value="EKS")
    record.write("fact", key="images", value={"istio/pilot:1": f"sha256:{'c' * 64}"})
    if evidence:
        record.evidence("objects/01-a.yaml", "kind: Namespace\nmetadata: {name: foo}\n")
    write_notebook(folder / "notebooks" / "01-a.ipynb", "1")
    run = {**ABOUT, "steps": [step("01-a", verdict, "it did not hold." * (verdict != "pass")), step("02-b", "not run")]}
    return folder, seal.seal(folder, run, key, secrets, authority)


def edit(name, old, new):
    def act(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return act
