"""Draws the workloads, their callers and how many requests came through, from a run's own answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from IPython.display import HTML

from lib.istio import answers
from lib.istio.access_log import GATEWAY
from lib.probes import model
from lib.probes.model import FIGURE_1, FIGURE_2, HARDENED, PROFILES, USER
from lib.probes.reporting.results import Result, skipped
from lib.render import rendered

ISSUER = "issuer"  # the key of Keycloak's address in `addresses`; the other keys are profiles
TITLES = {
    FIGURE_2: "Figure 2: a token and mutual TLS, from everybody",
    FIGURE_1: "Figure 1: users by token, sleep by mutual TLS",
    HARDENED: "Figure 1, hardened",
}
APPLICATIONS = {FIGURE_2: "httpbin", FIGURE_1: "httpbin-figure-1", HARDENED: "httpbin-hardened"}
CALLERS = {  # in drawing order, each with a description
    USER: "outside the mesh",
    "sleep": "with a sidecar",
    "visitor": "with a sidecar",
    "outsider": "without a sidecar",
    "stranger": "of another namespace",
    "node": "with hostNetwork",
}
FREQUENT = 3  # the number of statuses on an arrow; the rest are "others"
TOP, PANEL, HEAD, LINE = 100, 20, 24, 46  # lengths in the drawing, in SVG units


def drawing(results: Sequence[Result], addresses: Mapping[str, str], counts: str = "this run's answers") -> str:
    """Return an SVG of the profiles' workloads and callers, or "" if no profile was asked.

    Args:
        results: The results to count.
        addresses: The issuer's URL as `issuer`, and the gateway's host:port by profile. Missing ones are not drawn.
        counts: The caption that says what the counts on the arrows are.
    """
    panels, y = [], TOP
    for profile in PROFILES:
        asked = [one for one in results if one.profile == profile and one.got]
        if asked:
            panels.append({**panel(profile, asked, y + HEAD), "y": y, "gateway": addresses.get(profile, "")})
            y += HEAD + LINE * len(panels[-1]["ways"]) + PANEL
    if not panels:
        return ""
    return rendered(
        "drawing.svg.j2", panels=panels, issuer=addresses.get(ISSUER, ""), height=y, alt=alt(panels), counts=counts
    )


def show_planned(profiles: Sequence[str]) -> HTML:
    """Return the drawing for a notebook before any run, with the answers that the tables expect."""
    asked = [skipped(probe, profile, "") for profile in profiles for probe in model.load() if not probe.world]
    expected = [replace(one, got=one.expected) for one in asked if one.caller in CALLERS]
    return HTML(drawing(expected, {}, "the answers that are expected"))


def show(results: Sequence[Result], addresses: Mapping[str, str]) -> HTML:
    """Return the drawing for a notebook."""
    return HTML(drawing(results, addresses))


def panel(profile: str, results: Sequence[Result], top: int = 0) -> dict:
    """Return the template's data of a profile: title, application, and an arrow for each caller."""
    callers = sorted({one.caller for one in results}, key=lambda who: [*CALLERS].index(who) if who in CALLERS else 9)
    ways = [_way(who, [one for one in results if one.caller == who]) for who in callers]
    placed = [{**way, "y": top + LINE * number + LINE // 2} for number, way in enumerate(ways)]
    return {"title": TITLES[profile], "application": APPLICATIONS[profile], "ways": placed}


def alt(panels: Sequence[Mapping]) -> str:
    """Return the drawing as text, for screen readers."""
    sentences = [f"{one['title']}: {'; '.join(_in_words(way) for way in one['ways'])}" for one in panels]
    return f"What was built, and who was let through. {'. '.join(sentences)}."


def _way(who: str, results: Sequence[Result]) -> dict:
    known = any(one.hop for one in results)  # expected answers have no hop
    inside = [one for one in results if not (who == USER and known and _at_gateway(one))]
    ended = f", {len(results) - len(inside)} ended here" if known else ""
    return {
        "who": who,
        "what": CALLERS.get(who, ""),
        "to_gateway": f"{len(results)} asked{ended}" if who == USER else "",
        "through": f"{sum(one.passed_through for one in inside)} through",
        "refused": refused(inside),
        "open": any(one.passed_through for one in inside),
    }


def refused(results: Iterable[Result]) -> str:
    """Return the counts of refusals by status, the most frequent first; "" if there are none."""
    every = Counter(one.last[0] for one in results if not one.passed_through)
    most = every.most_common(FREQUENT if len(every) > FREQUENT + 1 else None)
    others = every.total() - sum(count for _, count in most)
    counts = [f"{count} × {_status(status)}" for status, count in most]
    return ", ".join([*counts, f"{others} others"] if others else counts)


def _in_words(way: Mapping) -> str:
    by_gateway = f"{way['to_gateway'].replace('here', 'at the gateway')}, " if way["to_gateway"] else ""
    outcome = ", ".join(filter(None, (way["through"], way["refused"])))
    return f"{way['who']}, {way['what']}: {by_gateway}{outcome}"


def _status(status: str) -> str:
    return "no HTTP" if status == "0" else status if len(status) == 3 else f"gRPC {status}"


def _at_gateway(result: Result) -> bool:
    """Whether the gateway refused. A refusal before it read the headers has no label in its log, so no hop."""
    return result.hop == GATEWAY or (not result.hop and result.last[1] in (*answers.UNREAD, "route"))
