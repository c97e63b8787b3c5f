"""What was measured once, for each triple of versions: later runs are held to it, and nothing changes it silently."""

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
    """Return the name of three versions together, as the file has it."""
    return f"istio {istio}, envoy {envoy}, keycloak {keycloak}"


def read(path: Path = FILE) -> dict[str, Answers]:
    """Return all baselines by triple; ParamsError where the file is not such a table."""
    found = (yaml.safe_load(path.read_text()) if path.exists() else None) or {}
    try:
        return {name: {id: dict(row) for id, row in (rows or {}).items()} for name, rows in found.items()}
    except (AttributeError, TypeError, ValueError):
        raise ParamsError(f"{path.name}: expected {{triple: {{id: {{profile: answer}}}}}}; mend it.") from None


def known(name: str, path: Path = FILE) -> Answers:
    """Return the baseline of one triple, empty where there is none."""
    return read(path).get(name, {})


def measured(results: Iterable[Result], ids: Collection[str]) -> Answers:
    """Return what the probes of these ids answered; rows that were not asked are left out."""
    found: Answers = {}
    for result in results:
        if result.id in ids and result.got:
            found.setdefault(result.id, {})[result.profile] = result.got
    return found


def differences(old: Answers, new: Answers) -> list[str]:
    """Return one line for each answer that the old baseline has and that is another one now."""
    return [
        f"{id}, {profile}: was {old[id][profile]}, is {answer}"
        for id, row in sorted(new.items())
        for profile, answer in sorted(row.items())
        if old.get(id, {}).get(profile, answer) != answer
    ]


def merged(old: Answers, new: Answers) -> Answers:
    """Return the old baseline with the new answers in it."""
    ids = sorted({*old, *new})
    return {id: dict(sorted({**old.get(id, {}), **new.get(id, {})}.items())) for id in ids}


def record(name: str, new: Answers, path: Path = FILE, accept: bool = False) -> list[str]:
    """Write the answers as the triple's baseline; return the differences from what is there.

    With differences nothing is written, unless they are accepted. Answers that the file does not have yet are added.
    """
    every = read(path)
    changed = differences(every.get(name, {}), new)
    if changed and not accept:
        return changed
    every[name] = merged(every.get(name, {}), new)
    path.write_text(HEAD + yaml.safe_dump(every, sort_keys=True, allow_unicode=True, width=120))
    return changed
