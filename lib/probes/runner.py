"""Probes are sent, all callers at once; what is not as expected is asked again before it is called red."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from lib.errors import RunbookError
from lib.istio import answers
from lib.istio.access_log import Trail
from lib.polling import until
from lib.probes.model import PROFILES, Probe
from lib.probes.reporting import results
from lib.probes.reporting.baselines import Answers
from lib.probes.reporting.results import Result
from lib.probes.scenarios.requests import DRILLS, Drill
from lib.probes.tokens.catalogue import Missing
from lib.probes.transport.messages import Reply, Request, Way, prepare
from lib.probes.transport.sockets import Edge
from lib.redact import clean


class Kit(Protocol):
    """Where tokens come from, for several threads."""

    def token(self, name: str) -> str:
        """Return the token of this name; Missing says why there is none."""


@dataclass(frozen=True)
class Target:
    """A workload that is asked: `name` is its profile or world, `ways` lead there by caller.

    `host` is what callers name it in the Host header; `hosts` has those that name it otherwise, by caller. `address`
    (host:port, or an Edge) is for sequences, which hold a connection of their own. `canary` is a server that must not
    be called. `logged` is False if no proxy writes a line about requests that reach the workload.
    """

    name: str
    host: str
    ways: Mapping[str, Way]
    hosts: Mapping[str, str] = field(default_factory=dict)
    address: str | Edge = ""
    canary: str = ""
    logged: bool = True


# What the access logs told of the requests with these labels.
Logs = Callable[[set[str]], Mapping[str, Trail]]


@dataclass(frozen=True)
class Settle:
    """How a probe that is not as expected is asked again, since policies take a while to be everywhere.

    `streak` right answers in a row make it right; all such probes of one way have `deadline` seconds together, with
    `pause` seconds between two tries.
    """

    streak: int = 2
    deadline: float = 6
    pause: float = 0.5


def run_probes(
    probes: Iterable[Probe],
    targets: Sequence[Target],
    kit: Kit,
    *,
    baseline: Answers | None = None,
    logs: Logs | None = None,
    drills: Mapping[str, Callable[[Drill], list[str]]] = DRILLS,
    settle: Settle = Settle(),
    workers: int = 32,
    nonce: str = "",
) -> list[Result]:
    """Ask every probe of its world's target, or of every profile's; return the results in the probes' order.

    Ways are used at once, `workers` of them; how many requests a way sends at once is its own matter. A probe whose
    token, caller or target is missing is skipped with the reason. `logs` is asked once, at the end, with the labels
    that a proxy must have written.
    """
    nonce, known = nonce or uuid.uuid4().hex[:8], baseline or {}
    rows = [_Row(probe, target, kit, nonce, known) for probe in probes for target in _targets(probe, targets)]
    for row in rows:
        row.plan(drills)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda job: job(), _jobs(rows, settle)))
    awaited = {row.label for row in rows if row.logged}
    trails = logs(awaited) if logs and any(row.labels() for row in rows) else {}
    return [row.result(trails) for row in rows]


@dataclass
class _Row:
    """A probe on its way to its result."""

    probe: Probe
    target: Target
    kit: Kit
    nonce: str
    known: Answers
    why: str = ""  # it is not asked
    error: str = ""  # it could not be asked
    request: Request | None = None
    drill: Callable[[Drill], list[str]] | None = None
    reply: Reply | None = None
    answers: list[str] = field(default_factory=list)
    tries: int = 0
    right: int = 0  # right answers in a row
    secrets: set[str] = field(default_factory=set)  # the tokens that were sent

    @property
    def name(self) -> str:
        return self.target.name or self.probe.world

    @property
    def host(self) -> str:
        return self.target.hosts.get(self.probe.caller, self.target.host)

    @property
    def way(self) -> Way | None:
        return self.target.ways.get(self.probe.caller)

    @property
    def baseline(self) -> str:
        return self.known.get(self.probe.id, {}).get(self.name, "")

    @property
    def label(self) -> str:
        """What finds the last try in access logs."""
        return f"{self.name}-{self.probe.id}-{self.nonce}-{max(self.tries, 1)}"

    def plan(self, drills: Mapping[str, Callable[[Drill], list[str]]]) -> None:
        """Make the first request or the sequence ready, or say why there is none."""
        how = self.probe.how
        if not self.target.name:
            self.why = f"there is no workload {self.probe.world!r} here"
        elif how in drills:
            self.drill = drills[how]
        elif how != "http":
            self.why = f"the sequence {how!r} cannot be held with {self.name} here"
        elif not self.way:
            self.why = f"there is no way from {self.probe.caller!r} to {self.name} here"
        else:
            self._first()

    def next(self) -> Request:
        """Return the request of the next try, with a label of its own and tokens of this moment."""
        self.tries += 1
        with suppress(RunbookError):  # what cannot be made anew goes as it was
            self.request = self._request()
        return self.request

    def take(self, reply: Reply) -> None:
        """Take the reply to the last request."""
        self.reply = reply
        self._answered([reply.answer])

    def hold(self, streak: int) -> bool:
        """Hold the sequence once; return whether that settles it."""
        self.tries += 1
        try:
            about = (self.target.address, self.host, self.way, self.token, self.label, self.name)
            self._answered(self.drill(Drill(*about)))
        except Missing as missing:
            self.why = str(missing)
        return bool(self.why) or self.settled(streak)

    def settled(self, streak: int) -> bool:
        """Whether it need not be asked again: right at once, right often enough since, or with nothing to be right."""
        return self.right == self.tries or self.right >= streak or (self.probe.measured and not self.baseline)

    @property
    def logged(self) -> bool:
        """Whether a proxy must have written a line that names the last request; a sequence's may be no request."""
        return bool(self.target.logged and self.reply and answers.logged(self.reply.answer))

    def labels(self) -> list[str]:
        """Return what finds the last try in access logs, of a sequence each of its requests."""
        if self.drill:
            return [f"{self.label}-{number}" for number in range(1, len(self.answers) + 1)]
        return [self.label] if self.reply else []

    def token(self, name: str) -> str:
        """Return the kit's token, which must not show up in the result."""
        found = self.kit.token(name)
        self.secrets.add(found)
        return found

    def result(self, trails: Mapping[str, Trail]) -> Result:
        """Return the result, its access log among `trails` by label."""
        if self.why:
            return results.skipped(self.probe, self.name, self.why)
        if not self.answers:
            return results.failed(self.probe, self.name, f"could not be asked: {self.error}", self.secrets)
        found = [trails[label] for label in self.labels() if label in trails]
        about = (self.baseline, self.tries, self.secrets)
        return results.judge(self.probe, self.name, self.answers, self.reply, found, *about)

    def _first(self) -> None:
        try:
            self.request = self._request()
        except Missing as missing:
            self.why = str(missing)

    def _request(self) -> Request:
        scheme = "https" if isinstance(self.target.address, Edge) else "http"
        return prepare(self.probe, self.token, self.host, self.label, self.target.canary, scheme)

    def _answered(self, found: list[str]) -> None:
        self.answers = found
        wanted = results.expected(self.probe, self.name, self.baseline)
        self.right = self.right + 1 if answers.fits(", ".join(found), wanted) else 0


def _targets(probe: Probe, targets: Sequence[Target]) -> list[Target]:
    """Return where a probe goes; for a world that is not here, a target without a name."""
    if not probe.world:
        return [target for target in targets if target.name in PROFILES]
    return [target for target in targets if target.name == probe.world] or [Target("", "", {})]


def _jobs(rows: list[_Row], settle: Settle) -> list[Callable[[], None]]:
    """Return the jobs that can run at once: each way's requests, and each sequence.

    Sequences come first, the last of the tables before all: those wait for Keycloak, and the requests fill that time.
    """
    ways: dict[Way, list[_Row]] = {}
    for row in rows:
        if row.request:
            ways.setdefault(row.way, []).append(row)
    requests = [partial(_ask, group, settle) for group in ways.values()]
    return [partial(_hold, row, settle) for row in reversed(rows) if row.drill] + requests


def _ask(rows: list[_Row], settle: Settle) -> None:
    """Ask the rows of one way; those that are not settled again, together, until they are or the time is over."""
    waiting = list(rows)

    def once() -> bool:
        replies = rows[0].way([row.next() for row in waiting])
        for row, reply in zip(waiting, replies, strict=True):
            row.take(reply)
        waiting[:] = [row for row in waiting if not row.settled(settle.streak)]
        return not waiting

    error = _until(once, settle)
    told = clean(error, {token for row in rows for token in row.secrets}) if error else ""
    for row in waiting:
        row.error = told


def _hold(row: _Row, settle: Settle) -> None:
    row.error = _until(lambda: row.hold(settle.streak), settle)


def _until(once: Callable[[], bool], settle: Settle) -> str:
    """Do it once, and where that did not settle it, until the deadline; return the last error, "" without one."""
    first = until(once, deadline=0)
    return first.error if first.held else until(once, deadline=settle.deadline, pause=settle.pause).error
