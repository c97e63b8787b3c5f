"""Sends probes for all callers at once, and asks unexpected answers again before they count as red."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from lib.errors import RunbookError
from lib.istio import answers
from lib.istio.access_log import Trail
from lib.polling import PROGRAMMING_ERRORS, Polled, until
from lib.probes.model import PROFILES, USER, Probe
from lib.probes.reporting import results
from lib.probes.reporting.baselines import Answers
from lib.probes.reporting.results import Result
from lib.probes.scenarios.requests import SCENARIOS, Context, Scenario
from lib.probes.tokens.kit import Missing
from lib.probes.transport.messages import Reply, Request, Transport, prepare
from lib.probes.transport.sockets import TlsAddress
from lib.redact import clean


@dataclass(frozen=True)
class Target:
    """A workload that probes are sent to.

    Args:
        name: Its profile or world.
        host: Its name in the Host header.
        transports: The transport that reaches it from each caller.
        hosts: The Host header of callers that use another name, by caller.
        address: The gateway's address, for scenarios that open connections of their own.
        canary: The address of a server that must not be called.
        logged: False if no proxy logs the requests that reach the workload.
    """

    name: str
    host: str
    transports: Mapping[str, Transport]
    hosts: Mapping[str, str] = field(default_factory=dict)
    address: str | TlsAddress = ""
    canary: str = ""
    logged: bool = True


# Returns the access logs' trails by label; it gets labels, and whether their requests came through a gateway.
Logs = Callable[[Mapping[str, bool]], Mapping[str, Trail]]


@dataclass(frozen=True)
class RetryPolicy:
    """How a probe with an unexpected answer is asked again: policies take a while to reach every proxy.

    `streak` right answers in a row make it right. All such probes of one transport share `deadline` seconds, and as
    many more as their first try took, with `pause` seconds between two tries.
    """

    streak: int = 2
    deadline: float = 6
    pause: float = 0.5

    def ask(
        self,
        once: Callable[[], Any],
        right: Callable[[Any], bool] = bool,
        streak: int = 1,
        reraise: tuple[type[Exception], ...] = PROGRAMMING_ERRORS,
    ) -> Polled:
        """Call `once`; if the value is not right, call it again until it is right `streak` times, or the time is over.

        The deadline grows by the seconds of the first call: a request that timed out leaves time for more than one
        other. An exception that is not among `reraise` counts as a wrong value, as in lib.polling.until.
        """
        first = until(once, right, deadline=0, reraise=reraise)
        if first.held:
            return first
        deadline = self.deadline + first.seconds
        again = until(once, right, streak=streak, deadline=deadline, pause=self.pause, reraise=reraise)
        return replace(again, tries=again.tries + 1)


def run_probes(
    probes: Iterable[Probe],
    targets: Sequence[Target],
    token: Callable[[str], str],
    *,
    baseline: Answers | None = None,
    logs: Logs | None = None,
    scenarios: Mapping[str, Scenario] = SCENARIOS,
    retry: RetryPolicy = RetryPolicy(),
    workers: int = 32,
    nonce: str = "",
) -> list[Result]:
    """Send every probe to its world's target, or to every profile's target.

    Args:
        probes: The probes to send.
        targets: The workloads that can be asked.
        token: Returns a token by name, for several threads; raises Missing with the reason if there is none.
        baseline: The answers that measured probes are compared with.
        logs: Reads the access logs. Called once, at the end, with the labels that the proxies must have logged.
        scenarios: The scenarios that a probe may name in `how`.
        retry: When to ask again.
        workers: How many transports work at once. Each transport sends its requests in parallel too.
        nonce: Makes the labels of this call unique; random by default.

    Returns:
        The results in the probes' order. A probe whose token, caller or target is missing is skipped, with the reason.
    """
    nonce, known = nonce or uuid.uuid4().hex[:8], baseline or {}
    rows = [_Attempt(probe, target, token, nonce, known) for probe in probes for target in _targets(probe, targets)]
    for row in rows:
        row.plan(scenarios)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda job: job(), _jobs(rows, retry)))
    awaited = {row.label: row.probe.caller == USER for row in rows if row.logged}
    trails = logs(awaited) if logs and any(row.labels() for row in rows) else {}
    return [row.result(trails) for row in rows]


@dataclass
class _Attempt:
    """A probe between its plan and its result."""

    probe: Probe
    target: Target
    make_token: Callable[[str], str]
    nonce: str
    known: Answers
    skip_reason: str = ""
    error: str = ""  # why no answer came
    request: Request | None = None
    scenario: Scenario | None = None
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
    def transport(self) -> Transport | None:
        return self.target.transports.get(self.probe.caller)

    @property
    def baseline(self) -> str:
        return self.known.get(self.probe.id, {}).get(self.name, "")

    @property
    def label(self) -> str:
        """What finds the last try in access logs."""
        return f"{self.name}-{self.probe.id}-{self.nonce}-{max(self.tries, 1)}"

    def plan(self, scenarios: Mapping[str, Scenario]) -> None:
        """Prepare the first request or the scenario, or set the reason to skip."""
        how = self.probe.how
        if not self.target.name:
            self.skip_reason = f"this mesh has no workload {self.probe.world!r}"
        elif how in scenarios:
            self.scenario = scenarios[how]
        elif how != "http":
            self.skip_reason = f"the scenario {how!r} cannot run against {self.name} here"
        elif not self.transport:
            self.skip_reason = f"no transport leads from {self.probe.caller!r} to {self.name} here"
        else:
            try:
                self.request = self._request()
            except Missing as missing:
                self.skip_reason = str(missing)

    def next(self) -> Request:
        """Return the request of the next try, with its own label and fresh tokens."""
        self.tries += 1
        with suppress(RunbookError):  # without a fresh token the last request goes again
            self.request = self._request()
        assert self.request
        return self.request

    def take(self, reply: Reply) -> None:
        """Keep the reply to the last request."""
        self.reply = reply
        self._keep([reply.answer])

    def run_scenario(self, streak: int) -> bool:
        """Run the scenario once; return whether its answers settle the probe."""
        assert self.scenario
        self.tries += 1
        context = Context(self.target.address, self.host, self.transport, self.token, self.label, self.name)
        try:
            self._keep(self.scenario(context))
        except Missing as missing:
            self.skip_reason = str(missing)
        return bool(self.skip_reason) or self.settled(streak)

    def settled(self, streak: int) -> bool:
        """Whether to stop asking: right every time, right `streak` times in a row, or nothing to compare with."""
        return self.right == self.tries or self.right >= streak or (self.probe.measured and not self.baseline)

    @property
    def logged(self) -> bool:
        """Whether a proxy must have logged the last request. A scenario may send bytes that no proxy logs."""
        return bool(self.target.logged and self.reply and answers.logged(self.reply.answer))

    def labels(self) -> list[str]:
        """Return the labels of the last try in access logs; a scenario has one for each request."""
        if self.scenario:
            return [f"{self.label}-{number}" for number in range(1, len(self.answers) + 1)]
        return [self.label] if self.reply else []

    def token(self, name: str) -> str:
        """Return a token, and remember to mask it in the result."""
        made = self.make_token(name)
        self.secrets.add(made)
        return made

    def result(self, trails: Mapping[str, Trail]) -> Result:
        """Return the result; `trails` are the access log's trails by label."""
        if self.skip_reason:
            return results.skipped(self.probe, self.name, self.skip_reason)
        if not self.answers:
            return results.failed(self.probe, self.name, f"could not be asked: {self.error}", self.secrets)
        logged = [trails[label] for label in self.labels() if label in trails]
        return results.judge(
            self.probe, self.name, self.answers, self.reply, logged, self.baseline, self.tries, self.secrets
        )

    def _request(self) -> Request:
        scheme = "https" if isinstance(self.target.address, TlsAddress) else "http"
        return prepare(self.probe, self.token, self.host, self.label, self.target.canary, scheme)

    def _keep(self, got: list[str]) -> None:
        self.answers = got
        wanted = results.expected(self.probe, self.name, self.baseline)
        self.right = self.right + 1 if answers.fits(", ".join(got), wanted) else 0


def _targets(probe: Probe, targets: Sequence[Target]) -> list[Target]:
    """Return where a probe goes; a target without a name if its world is missing."""
    if not probe.world:
        return [target for target in targets if target.name in PROFILES]
    return [target for target in targets if target.name == probe.world] or [Target("", "", {})]


def _jobs(rows: list[_Attempt], retry: RetryPolicy) -> list[Callable[[], None]]:
    """Return the work that can run in parallel: one job for each transport, and one for each scenario.

    Scenarios come first, the last of the tables before all: they wait for Keycloak, and requests fill that time.
    """
    groups: dict[Transport, list[_Attempt]] = {}
    for row in rows:
        if row.request and row.transport:
            groups.setdefault(row.transport, []).append(row)
    jobs: list[Callable[[], None]] = [partial(_run_scenario, row, retry) for row in reversed(rows) if row.scenario]
    return jobs + [partial(_ask, send, group, retry) for send, group in groups.items()]


def _ask(send: Transport, rows: list[_Attempt], retry: RetryPolicy) -> None:
    """Send the rows of one transport; send unsettled rows again, together, until they settle or the time is over."""
    waiting = sorted(rows, key=lambda row: row.probe.turn)

    def once() -> bool:
        try:
            replies = send([row.next() for row in waiting])
        except Missing as missing:  # the caller is missing
            for row in waiting:
                row.skip_reason = str(missing)
            return True
        for row, reply in zip(waiting, replies, strict=True):
            row.take(reply)
        waiting[:] = [row for row in waiting if not row.settled(retry.streak)]
        return not waiting

    error = _repeat(once, retry)
    masked = clean(error, {token for row in rows for token in row.secrets}) if error else ""
    for row in waiting:
        row.error = masked


def _run_scenario(row: _Attempt, retry: RetryPolicy) -> None:
    row.error = _repeat(lambda: row.run_scenario(retry.streak), retry)


def _repeat(once: Callable[[], bool], retry: RetryPolicy) -> str:
    """Call `once` until it settles or the time is over; return the last error, or "".

    A probe of a strange answer ends as a row with an error, whatever the error is: the other probes go on.
    """
    return retry.ask(once, reraise=()).error
