"""A fault of a lab, with the request that shows it and the cause that `why` must name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from lib.diagnose.diagnosis import Diagnosis
from lib.errors import RunbookError
from lib.istio import installation
from lib.labs import changes
from lib.labs.changes import PATIENCE
from lib.labs.lab import FRIEND, HOST, Lab
from lib.parallel import at_once
from lib.polling import until, wait

Token = Callable[[Lab], str | None]


def good(lab: Lab) -> str:
    """Return a user's valid token."""
    return lab.good_token


def kept(lab: Lab) -> str:
    """Return the token that the change fetched."""
    return lab.kept["token"]


def nothing(lab: Lab) -> None:
    """Send no token; or change nothing."""


@dataclass(frozen=True)
class Fault:
    """A fault, and the request that shows it.

    Attributes:
        name: As in docs/why.md.
        cause: The cause that lib.diagnose names.
        prediction: The status that a learner may predict; 000 is no answer.
        change: Makes the fault.
        token: The token to send, None for a request without one.
        caller: The pod that sends the request; "" is a user, through the gateway.
        url: The URL, if it is not the lab's.
        host: The Host header.
        to: The address to connect to, if it is not the URL's host.
        within: A context; the fault lasts as long as it does.
        headers: Further headers. They are asked for after the URL.
        method: The HTTP method.
        asks: Who asks for what, if it is not the caller for `/headers`.
        gateway_api: The attributes that differ with the param `gateway_api: gateway-api`.
    """

    name: str
    cause: str
    prediction: str
    change: changes.Change = nothing
    token: Token = good
    caller: str = ""
    url: Callable[[Lab], str] = lambda lab: ""
    host: str = HOST
    to: Callable[[Lab], str] = lambda lab: ""
    within: Callable[[Lab], AbstractContextManager[None]] = lambda lab: nullcontext()
    headers: Callable[[Lab], dict[str, str]] = lambda lab: {}
    method: str = "GET"
    asks: str = ""
    gateway_api: Mapping[str, Any] = field(default_factory=dict)

    def form(self, api: str) -> Fault:
        """Return the fault for the kinds that make the gateways, "istio" or "gateway-api"."""
        return replace(self, **self.gateway_api) if api == installation.GATEWAY_API else self

    @contextmanager
    def injected(self, lab: Lab) -> Iterator[None]:
        """Make the fault; at the end heal a lab that the fault changed, and wait until its requests pass again."""
        try:
            with self.within(lab):
                self.change(lab)
                yield
        finally:
            if lab.changes:
                lab.heal()
                wait(
                    "the lab to be healed",
                    lambda: at_once([partial(lab.ask, lab.good_token), partial(lab.ask, caller=FRIEND)]),
                    lambda found: {one.cause for one in found} == {"allowed"},
                    deadline=PATIENCE,
                )

    def ask(self, lab: Lab) -> Diagnosis:
        """Return the diagnosis of the request, now."""
        way = self.url(lab), self.host, self.to(lab), self.headers(lab)
        return lab.ask(self.token(lab), self.caller, *way, self.method)

    def why(self, lab: Lab, patience: float = PATIENCE) -> Diagnosis:
        """Ask until `why` names the cause, or the proxies have had time to follow; return the last diagnosis."""
        got = until(lambda: self.ask(lab), self._shows, deadline=patience)
        if got.value is None:
            raise RunbookError(f"No diagnosis of the fault {self.name}: {got.error}. Heal the lab, then try again.")
        return got.value

    def _shows(self, found: Diagnosis) -> bool:
        """Return whether the cause is named for the predicted answer: until proxies follow, others may have it too."""
        answered = "no answer" if self.prediction == "000" else f": {self.prediction}"
        return found.cause == self.cause and answered in found.refused
