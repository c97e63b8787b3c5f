"""Clusters that answer from recorded results, an S3 with faults, and a Job whose pods ended as they did."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lib.fleet.model import Member, Round
from lib.fleet.prove import Answers
from lib.probes import model
from lib.probes.reporting import results
from lib.probes.targets import remote

KEY = Ed25519PrivateKey.generate()
PUBLIC = [KEY.public_key()]
SETTINGS = {"url": "https://mesh.example/headers", "issuer": "https://k", "audience": "istio", "token_command": "true"}


def members(*names):
    return [Member(name=name, eks=f"{name}-eks", region="eu-west-1") for name in names]


def a_round(bucket, *names, id="2026-01-02"):
    return Round(fleet="demo", round=id, bucket=bucket, region="us-east-1", clusters=members(*names))


@cache
def recorded():
    """The answers of a whole mesh to all probes that can be sent from outside, and the skipped ones."""
    given = remote.settings(SETTINGS | {"profile": "figure-1"})
    fit, left = remote.fitting(model.load(), given)
    one = lambda probe: probe.expected("figure-1").split(" or ")[0]  # noqa: E731
    return [*(results.judge(probe, "figure-1", one(probe)) for probe in fit), *left]


def with_hole(found):
    """The same, but nobody checks whether a token is there."""
    open_door = lambda one: one.id.startswith("A01")  # noqa: E731
    return [
        results.Result(**{**vars(one), "got": "200 app", "verdict": "fail"}) if open_door(one) else one for one in found
    ]


def asking(found=None):
    arn = "arn:aws:eks:eu-west-1:123456789012:cluster/{}"
    return lambda member, folder: Answers(found or recorded(), {"cluster_arn": arn.format(member.eks)})


@contextmanager
def calls(client):
    """Count the calls of a boto3 client by operation."""
    made: Counter = Counter()
    count = lambda model, **_: made.update([model.name])  # noqa: E731
    client.meta.events.register("before-call", count)
    yield made
    client.meta.events.unregister("before-call", count)
