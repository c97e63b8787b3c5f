"""The engines side by side: the whole matrix under each, answers that differ from the mesh's, and the cost."""

from __future__ import annotations

import json
import math
import statistics
import time
from contextlib import suppress
from functools import partial

import pandas as pd

from lib.errors import RunbookError
from lib.istio.access_log import PROXY
from lib.istio.extension_providers import AUTHORIZER
from lib.names import ROLES
from lib.parallel import at_once
from lib.polling import until
from lib.probes import model, workloads
from lib.probes.tokens.kit import Kit
from lib.probes.transport.messages import Reply, Request, prepare
from lib.probes.transport.sockets import Connection, over_sockets
from lib.roles import application, engines, proof
from lib.roles.matrix import Matrix
from lib.run import Run

REQUESTS = 100  # of each engine, one after another on one connection, to measure what a decision costs
RECENT = 60  # seconds of the decision log that the notebook shows
WARM = 20  # requests before these
MEASURED = "/anything/articles/7"  # what they ask, as a reader
# Answers that differ from the mesh's, by probe: the engine lets in (True) or refuses (False), and why
STRING = "a string is no list: Istio compares it like a list of one, the policy refuses it"
TWICE = "OPA reads the last of two equal members; Envoy's JWT filter refuses such a payload"
OTHERWISE: dict[str, dict[str, tuple[bool, str]]] = {
    "opa": {"R03a": (False, STRING), "R03j": (True, TWICE)},
    "cel": {"R03a": (False, STRING)},
}
GRPC_REFUSED = "7"  # grpc-status PERMISSION_DENIED, which comes as HTTP 200


def prove(run: Run, found: Matrix, known: Kit) -> pd.DataFrame:
    """Send every cell of the matrix to each authorizer engine; return the differences: one row for each engine.

    A cell that differs is a red check that says why.
    """
    rows, names = [], {engine: engines.WORKLOADS[engine] for engine in engines.authorizers(run)}
    asked_of = at_once([partial(application.ask, run, found, known, name) for name in names.values()])
    for (engine, name), outcomes in zip(names.items(), asked_of, strict=True):
        before = len(run.checks)
        application.record(run, known, outcomes, name)
        asked = run.checks[before:]
        rows.append({"engine": engine, "workload": name, "cells": len(asked), "differ": sum(one.red for one in asked)})
    return pd.DataFrame(rows)


def otherwise(run: Run, known: Kit) -> pd.DataFrame:
    """Send family R's probes of users to each authorizer engine; return the answers that differ from the mesh's.

    An answer that is neither the mesh's nor among OTHERWISE is asked for again, like that of any probe.
    """
    rows = []
    probes = [one for one in model.load(model.ROLES) if one.caller == model.USER and one.how == "http"]
    of_mesh = {one.id: proof.judged(one.expected(application.NAME)) for one in probes}
    patience = run.patience

    def ask(engine: str, there: workloads.Location) -> dict[str, str]:
        wanted, got, send = {**of_mesh, **_stated(engine)}, {}, over_sockets(there.address)
        waiting = sorted(probes, key=lambda one: one.turn)

        def once() -> bool:
            requests = [prepare(one, known.token, there.host, f"otherwise-{one.id}", scheme="https") for one in waiting]
            got.update({one.id: _judged(reply) for one, reply in zip(waiting, send(requests), strict=True)})
            waiting[:] = [one for one in waiting if got[one.id] != wanted[one.id]]
            return not waiting

        until(once, deadline=patience, pause=0.5)
        return got

    places = {engine: workloads.location(run, engines.WORKLOADS[engine]) for engine in engines.authorizers(run)}
    answers = at_once([partial(ask, *place) for place in places.items()])
    for (engine, there), got in zip(places.items(), answers, strict=True):
        differ = {id: answer for id, answer in got.items() if answer != of_mesh[id]}
        stated = _stated(engine)
        run.check(f"{there.name}: probes of family R that it answers otherwise than the mesh", stated, differ)
        for one in probes:
            if one.id in differ:
                why = OTHERWISE[engine].get(one.id, (None, "not known"))[1]
                mesh = one.expected(application.NAME)
                rows.append(
                    {"engine": engine, "probe": f"{one.id} {one.title}", "mesh": mesh, "it": differ[one.id], "why": why}
                )
    return pd.DataFrame(rows)


def cost(run: Run, known: Kit) -> pd.DataFrame:
    """Return what a request costs under each engine: latency at the gateway, and CPU of the proxies and the authorizer.

    Each engine gets REQUESTS requests of a reader, one after another on one connection.
    """
    rows = []
    for engine in engines.chosen(run):
        name = engines.WORKLOADS[engine]
        there = workloads.location(run, name)
        headers = (f"Host: {there.host}", f"Authorization: Bearer {known.token('reader')}")
        request = Request("GET", MEASURED, headers)
        pods = [name, AUTHORIZER] if engine != "mesh" else [name]
        used = partial(at_once, [partial(_cpu, run, pod) for pod in pods])
        with Connection(there.address) as connection:
            taken = [connection.ask(request).latency_ms for _ in range(WARM)]
            began, before = time.monotonic(), used()
            taken = sorted(connection.ask(request).latency_ms for _ in range(REQUESTS))
            after = used()
        proxies = (sum(after) - sum(before)) / REQUESTS
        own = _own_cpu(run, name, began) if engine != "mesh" else 0.0
        rows.append(
            {
                "engine": engine,
                "median ms": statistics.median(taken),
                "95 % under ms": taken[int(len(taken) * 0.95)],
                "CPU of sidecars, ms": round(proxies / 1000, 2),
                "CPU of the authorizer, ms": round(own / 1000, 2),
            }
        )
    table = pd.DataFrame(rows)
    run.fact("engines: cost of a request", table.to_dict("records"))
    return table


def _stated(engine: str) -> dict[str, str]:
    """Return the answers of OTHERWISE by probe."""
    return {id: proof.ALLOWED if lets_in else proof.REFUSED for id, (lets_in, _) in OTHERWISE[engine].items()}


def _judged(reply: Reply) -> str:
    return proof.REFUSED if reply.headers.get("grpc-status") == GRPC_REFUSED else proof.judged(reply.answer)


def decisions(run: Run, workload: str, since: float) -> list[dict]:
    """Return the lines of the authorizer's decision log about a workload since a time of time.monotonic()."""
    seconds = int(time.monotonic() - since) + 2
    pod = run.cluster.pod(f"app={AUTHORIZER}", ROLES)["metadata"]["name"]
    lines = run.cluster.logs(pod, ROLES, AUTHORIZER, seconds).splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [one for one in found if one["workload"].endswith(f"/{workload}")]


def decision_log(run: Run, workload: str, last: int = 4) -> pd.DataFrame:
    """Return the last decisions about a workload as a table."""
    columns = ["decision_id", "engine", "allowed", "method", "path", "rule", "reason", "source"]
    found = decisions(run, workload, time.monotonic() - RECENT) if engines.authorizers(run) else []
    return pd.DataFrame(found[-last:], columns=columns)


def _cpu(run: Run, app: str) -> float:
    """Return the CPU time that a pod's sidecar has used, in microseconds; not a number if its image has no shell."""
    read = ["sh", "-c", "cat /proc/[0-9]*/task/*/schedstat"]  # of each thread: nanoseconds on a processor, and more
    with suppress(RunbookError):
        text, code = run.cluster.execute(f"app={app}", ROLES, PROXY)(read, "")
        if not code:
            return sum(int(line.split()[0]) for line in text.splitlines()) / 1000
    return math.nan


def _own_cpu(run: Run, workload: str, began: float) -> float:
    """Return the authorizer's CPU for a decision, in microseconds, by the counter in its log."""
    used = [one["cpu_microseconds"] for one in decisions(run, workload, began)][-REQUESTS:]
    return (used[-1] - used[0]) / (len(used) - 1)
