"""Baselines: the answers of measured probes for each set of versions, which later runs must repeat."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import yaml

from lib.errors import ParamsError
from lib.probes.reporting.results import Result

FILE = Path(__file__).parent / "baselines.yml"
HEAD = """\
# What the measured probes answered, for each triple of versions: {id: {profile or world: answer}}.
# Written by `python -m lib.probes baseline outputs/…/responses.csv --istio … --envoy … --keycloak …`.
"""

Answers = dict[str, dict[str, str]]  # by the probe's id, then by profile or world


def triple(istio: str, envoy: str, keycloak: str) -> str:
    """Return the baseline's name of three versions."""
    return f"istio {istio}, envoy {envoy}, keycloak {keycloak}"


def read(path: Path = FILE) -> dict[str, Answers]:
    """Return all baselines by triple; ParamsError if the file is not such a table."""
    found = (yaml.safe_load(path.read_text()) if path.exists() else None) or {}
    try:
        return {name: {id: dict(row) for id, row in (rows or {}).items()} for name, rows in found.items()}
    except (AttributeError, TypeError, ValueError):
        raise ParamsError(f"{path.name}: expected {{triple: {{id: {{profile: answer}}}}}}; correct the file.") from None


def known(name: str, path: Path = FILE) -> Answers:
    """Return the baseline of one triple, or an empty one."""
    return read(path).get(name, {})


def measured(results: Iterable[Result], ids: Collection[str]) -> Answers:
    """Return the answers to the probes of these ids, without probes that were not sent."""
    found: Answers = {}
    for result in results:
        if result.id in ids and result.got:
            found.setdefault(result.id, {})[result.profile] = result.got
    return found


def differences(old: Answers, new: Answers) -> list[str]:
    """Return a line for each answer that differs from the old baseline."""
    return [
        f"{id}, {profile}: was {old[id][profile]}, is {answer}"
        for id, row in sorted(new.items())
        for profile, answer in sorted(row.items())
        if old.get(id, {}).get(profile, answer) != answer
    ]


def merged(old: Answers, new: Answers) -> Answers:
    """Return the old baseline updated with the new answers."""
    ids = sorted({*old, *new})
    return {id: dict(sorted({**old.get(id, {}), **new.get(id, {})}.items())) for id in ids}


def record(name: str, new: Answers, path: Path = FILE, accept: bool = False) -> list[str]:
    """Write the answers as the triple's baseline; return the differences from the baseline in the file.

    If answers differ, nothing is written unless `accept` is true. New answers are added.
    """
    every = read(path)
    changed = differences(every.get(name, {}), new)
    if changed and not accept:
        return changed
    every[name] = merged(every.get(name, {}), new)
    path.write_text(HEAD + yaml.safe_dump(every, sort_keys=True, allow_unicode=True, width=120))
    return changed
