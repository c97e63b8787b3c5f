"""A fleet without clusters: they answer from recorded results, S3 has faults, and the Job's pods end as drawn.

`python -m tests.support.stub_fleet 10 30 100` measures the gatherer, with the answers of a whole mesh for each cluster.
"""

from __future__ import annotations

import base64
import csv
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from lib.bundle import signing_key
from lib.errors import ClusterError, RunbookError
from lib.fleet import gather, prove, standing
from lib.fleet.model import Member, Round
from lib.names import WATCH
from lib.parallel import at_once
from lib.polling import until
from lib.probes import model
from lib.probes.reporting.results import judge
from lib.probes.targets import remote
from tests.support.little_cluster import Cluster
from tests.support.moto_s3 import KEYS, serving

ANSWERS = Path(__file__).with_name("recorded_answers.csv")
KEY = Ed25519PrivateKey.generate()
PUBLIC = [KEY.public_key()]
SETTINGS = {"url": "https://mesh.example/headers", "issuer": "https://k", "audience": "istio", "token_command": "true"}
FEW, ALL = "A01,A02,B05,C02,D02,D12,D18,D21", "A,B,C,D"
DAY = timedelta(days=1)


def a_round(bucket, *names, id="2026-01-02"):
    clusters = [Member(name=name, eks=f"{name}-eks", region="eu-west-1") for name in names]
    return Round(fleet="demo", round=id, bucket=bucket, region="us-east-1", clusters=clusters)


@cache
def recorded(families=FEW):
    """What a real mesh answered to these probes in a run of dev, and the probes that cannot be sent from outside."""
    given = remote.settings(SETTINGS | {"profile": "figure-1", "families": families})
    fit, left = remote.fitting(model.load(), given)
    known = {row["probe"]: row for row in csv.DictReader(ANSWERS.read_text().splitlines())}
    return [*(_answered(probe, known[probe.id]) for probe in fit), *left]


def _answered(probe, row):
    more = {"status_line": row["status_line"], "reason": row["reason"], "latency_ms": float(row["latency_ms"])}
    return replace(judge(probe, "figure-1", row["got"]), **more)


def with_hole(found):
    """The same, but nobody checks whether a token is there."""
    return [replace(one, got="200 app", verdict="fail") if one.id == "A01" else one for one in found]


def asking(found=None):
    arn = "arn:aws:eks:eu-west-1:123456789012:cluster/{}"
    return lambda member, folder: prove.Answers(found or recorded(), {"cluster_arn": arn.format(member.eks)})


@contextmanager
def calls(client):
    """Count the calls of a boto3 client by operation."""
    made: Counter = Counter()
    count = lambda model, **_: made.update([model.name])  # noqa: E731
    client.meta.events.register("before-call", count)
    yield made
    client.meta.events.unregister("before-call", count)


# Faults of S3: what PutObject answers, and what the index says


class Raw:
    """A body of an answer that never was on a wire."""

    def __init__(self, text):
        self.text = text

    def stream(self, **_):
        yield self.text.encode()


def refusing(status, code, message):
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return lambda request, **_: AWSResponse(request.url, status, {"content-type": "application/xml"}, Raw(text))


def raising(error):
    def act(request, **_):
        raise error(endpoint_url="https://s3.us-east-1.amazonaws.com", error="none")

    return act


S3_FAULTS = {
    "away": (raising(EndpointConnectionError), "got no answer (EndpointConnectionError); check the network"),
    "slow": (raising(ReadTimeoutError), "got no answer (ReadTimeoutError); check the network"),
    "full": (refusing(507, "XMinioStorageFull", "no space"), "got XMinioStorageFull: no space; make room"),
    "no quota": (refusing(403, "QuotaExceeded", "no quota"), "got QuotaExceeded: no quota; make room"),
    "busy": (refusing(503, "SlowDown", "Reduce your rate."), "got SlowDown: Reduce your rate; S3 limits the rate"),
    "denied": (refusing(403, "AccessDenied", "Access Denied"), "got AccessDenied: Access Denied; give the caller"),
    "clock": (
        refusing(403, "RequestTimeTooSkewed", "The difference is too large."),
        "got RequestTimeTooSkewed: The difference is too large; set this machine's clock",
    ),
}


@contextmanager
def faulty(s3, fault, call="PutObject", part=""):
    """A client for the same S3, whose calls of one operation end so if `part` is in their URL."""
    one = boto3.client("s3", endpoint_url=s3.meta.endpoint_url, config=Config(retries={"max_attempts": 0}), **KEYS)
    act = lambda request, **_: S3_FAULTS[fault][0](request) if part in request.url else None  # noqa: E731
    one.meta.events.register(f"before-send.s3.{call}", act)
    yield one
    one.close()


# The simulation

POD_FAULTS = {  # the status of the pod, and the beginning of the note
    "dies": ({"containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled"}}}]}, "OOMKilled"),
    "hangs": ({"reason": "DeadlineExceeded", "message": "Pod was active"}, "DeadlineExceeded: Pod was active"),
    "evicted": ({"reason": "Evicted", "message": "low on memory"}, "Evicted: low on memory"),
}
GONE = "There is no EKS cluster gone."
FAULTS = ("none", "hole", "twice", "poisoned", "gone", *POD_FAULTS, *S3_FAULTS)


class Simulation:
    """The indexes of a round as threads, with a Job in memory whose pods end as they did."""

    def __init__(self, s3, one, seed, scratch, faults=FAULTS, key=KEY):
        self.s3, self.one, self.scratch, self.faults, self.key = s3, one, scratch, faults, key
        self.random, self.cluster, self.drawn, self.done = random.Random(seed), Cluster(), {}, set()
        self.delays = []

    def run(self, clusters, retries=1):
        """Ask these clusters, each again after a fault; each try draws its own fault and its own delay."""
        asked = self.one.model_copy(update={"clusters": clusters})
        jobs = [partial(self._index, number, one, self._draws(retries)) for number, one in enumerate(clusters)]
        at_once(self.random.sample(jobs, len(jobs)))
        config = {"data": {standing.FILE: asked.model_dump_json()}}
        metadata = {"name": "fleet-demo", "namespace": WATCH}
        status = {"completedIndexes": ",".join(map(str, sorted(self.done)))}
        self.cluster.apply({"kind": "ConfigMap", "metadata": metadata, **config})
        self.cluster.apply({"kind": "Job", "metadata": metadata, "status": status})

    def _draws(self, retries):
        """Return the faults of an index's pods; an evicted pod is no try (image/fleet.yaml, podFailurePolicy)."""
        drawn = []
        while sum(fault != "evicted" for fault in drawn) <= retries:
            drawn.append(self.random.choice(self.faults))
        return [(fault, self.random.random() / 50) for fault in drawn]

    def _index(self, number, member, tries):
        for again, (fault, delay) in enumerate(tries):
            until(lambda: False, deadline=delay, pause=delay)
            self.delays.append(delay)
            self.drawn[member.name] = fault
            status = self._pod(member, fault, self.scratch / f"{member.name}-{again}")
            if not status:
                self.done.add(number)
                return
            notes = {standing.INDEX: str(number)}
            about = {"name": f"{number}-{again}", "namespace": WATCH, "creationTimestamp": str(again)}
            self.cluster.apply({"kind": "Pod", "metadata": {**about, "annotations": notes}, "status": status})

    def _pod(self, member, fault, scratch):
        """Return the status of a pod that failed, or {}."""
        if fault in POD_FAULTS:
            return POD_FAULTS[fault][0]
        ask = asking(with_hole(recorded()) if fault == "hole" else recorded())
        try:
            if fault == "gone":
                raise ClusterError(GONE)
            if fault in S3_FAULTS:
                with faulty(self.s3, fault) as s3:
                    prove.prove(self.one, member, ask, s3, self.key, scratch)
            key = Ed25519PrivateKey.generate() if fault == "poisoned" else self.key
            for time_ in range(2 if fault == "twice" else 1):
                prove.prove(self.one, member, ask, self.s3, key, scratch / str(time_))
        except RunbookError as error:
            ended = {"reason": "Error", "exitCode": 2, "message": f"…\n{error}\n"}
            return {"containerStatuses": [{"state": {"terminated": ended}}]}
        return {}

    def expected(self, name):
        """The state and the note's beginning that the last fault of a cluster makes."""
        fault = self.drawn[name]
        states = {"none": gather.PROVED, "twice": gather.PROVED, "hole": gather.RED, "poisoned": gather.UNTRUSTED}
        notes = {"poisoned": "The bundle is signed by", "gone": GONE}
        said = S3_FAULTS[fault][1] if fault in S3_FAULTS else notes.get(fault, POD_FAULTS.get(fault, ("", ""))[1])
        return states.get(fault, gather.LATE), said

    def rows(self):
        reasons = standing.reasons(self.cluster, "demo", self.one.round)
        found = gather.stored(self.s3, self.one.place)
        return gather.gather(self.one, found, self.s3, PUBLIC, DAY, datetime.now(UTC), reasons)


class Control(Cluster):
    """A control cluster: a Job that is applied has ended at once, after a simulation with these faults."""

    def __init__(self, s3, scratch):
        super().__init__()
        self.s3, self.scratch, self.faults, self.jobs = s3, scratch, ["none"], 0

    def delete(self, api_version, kind, name, namespace=None):
        return "deleted" if self.kept.pop((kind, namespace, name), None) else "absent"

    def apply(self, obj):
        return super().apply({**obj, "status": self._ended()} if obj["kind"] == "Job" else obj)

    def _ended(self):
        self.jobs += 1
        one = Round.model_validate_json(self.find("", "ConfigMap", "fleet-demo", WATCH)["data"][standing.FILE])
        secret = self.find("", "Secret", standing.SIGNER, WATCH)["data"][standing.KEY]
        key = load_pem_private_key(base64.b64decode(secret), None)
        world = Simulation(self.s3, one, self.jobs, self.scratch / str(self.jobs), self.faults, key)
        world.run(one.clusters)
        for pod in world.cluster.items("", "Pod"):
            super().apply(pod)
        done = ",".join(map(str, sorted(world.done)))
        return {"completedIndexes": done, "conditions": [{"type": "Complete", "status": "True"}]}


# The measurement


def _bundle(one, number, scratch):
    member = one.clusters[number]
    return prove.bundle(
        one, member, asking(recorded(ALL))(member, None), prove.now(), float, KEY, scratch / member.name
    )


def _measured(one, endpoint, pem):
    """Gather in a process of its own, and print its seconds, its MiB at the most, and its calls."""
    key = load_pem_public_key(pem.encode())
    s3 = boto3.client("s3", endpoint_url=endpoint, **KEYS)
    began, cpu = time.monotonic(), time.process_time()
    with calls(s3) as made:
        found = gather.stored(s3, one.place)
        rows = gather.gather(one, found, s3, [key], DAY, datetime.now(UTC), {})
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024  # ru_maxrss counts the parent's memory, which has every bundle
    seconds = {"wall": time.monotonic() - began, "cpu": time.process_time() - cpu}
    proved = sum(row.state == gather.PROVED for row in rows)
    print(json.dumps({"clusters": len(rows), "proved": proved, **seconds, "MiB": peak, "calls": made}), flush=True)


def measure(counts):
    names = [f"c{number:04}" for number in range(max(counts))]
    alone = multiprocessing.get_context("spawn")  # a fork would have this process's memory
    with tempfile.TemporaryDirectory() as folder, serving() as s3:
        s3.create_bucket(Bucket="proofs")
        whole = a_round("s3://proofs/x", *names)
        files = [_bundle(whole, number, Path(folder)) for number in range(len(names))]
        for count in counts:
            one = a_round(f"s3://proofs/n{count}", *names[:count])
            for file in files[:count]:
                key = f"n{count}/{one.fleet}/{one.round}/{file.name}"
                s3.put_object(Bucket="proofs", Key=key, Body=file.read_bytes())
            child = alone.Process(target=_measured, args=(one, s3.meta.endpoint_url, signing_key.pem(PUBLIC[0])))
            child.start()
            child.join()


if __name__ == "__main__":
    measure([int(word) for word in sys.argv[1:]])
