"""Results as pictures: a heat map of all probes, and both figures of the article with live counts on their arrows."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO

from IPython.display import HTML, Markdown
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.probes.accesslog import GATEWAY
from lib.probes.model import FIGURE_1, FIGURE_2, HARDENED, PROFILES, USER
from lib.probes.results import FAIL, SKIPPED, UNMEASURED, Result

# kind: its sign, its colour (each of another lightness, so that they differ in grey too), and what it is
KINDS = {
    "through": ("+", "#cfe8cf", "let through, as expected"),
    "refused": ("−", "#86aecb", "refused, as expected"),
    "finding": ("!", "#f0c040", "as expected, but not as one would wish"),
    "unmeasured": ("?", "#eeeeee", "no baseline yet"),
    "skipped": ("·", "#ffffff", "not asked"),
    "red": ("✗", "#8b1a1a", "not as expected"),
}
WORLDS = "worlds"  # the panel of the workloads under a policy of their own
UNREAD = ("codec", "route", "closed", "reset", "refused", "timeout")
CELL = 0.34  # inches
DOTS = 110  # an inch

FAMILIES = {
    "A": "baseline",
    "B": "placement",
    "C": "algorithms and keys",
    "D": "claims",
    "E": "keys' and policies' life",
    "F": "paths and methods",
    "G": "mesh and identity",
    "H": "token endpoint",
}
TITLES = {
    FIGURE_2: "Figure 2: a token and mutual TLS, from everybody",
    FIGURE_1: "Figure 1: users by token, sleep by mutual TLS",
    HARDENED: "Figure 1, hardened",
}


def kind(result: Result) -> str:
    """Return which of KINDS a result is."""
    if result.verdict in (SKIPPED, UNMEASURED):
        return result.verdict
    if result.verdict == FAIL:
        return "red"
    if result.finding:
        return "finding"
    return "through" if result.passed_through or 100 < int(_last(result)[0] or 0) < 400 else "refused"


def heat_map(results: Sequence[Result]) -> Figure:
    """Return a picture of all results: a panel a profile, a row a family, a column an id's number.

    Probes of one number (B12a, B12b) share a cell. Each has a colour and a sign. `figure.savefig("x.svg")` writes it.
    """
    panels = _panels(results)
    letters = sorted({one.family for one in results})
    numbers = sorted({_number(one) for one in results})
    size = (2.6 + CELL * len(numbers), 1.0 + (0.9 + CELL * len(letters)) * len(panels))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    for place, (name, rows) in enumerate(panels.items(), 1):
        _panel(figure.add_subplot(len(panels), 1, place), name, rows, letters, numbers)
    if figure.axes:
        figure.axes[-1].set_xlabel("number of the probe's id", fontsize=8)
    patches = [Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="black") for _, colour, _ in KINDS.values()]
    words = [f"{sign}  {meaning}" for sign, _, meaning in KINDS.values()]
    figure.legend(patches, words, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def alt(results: Sequence[Result]) -> str:
    """Return the heat map in words, for who cannot see it."""
    parts = [f"{name}: {_counted(rows)}" for name, rows in _panels(results).items()]
    red = sorted({one.id for one in results if kind(one) == "red"})
    said = f"Red are {', '.join(red)}." if red else "None is red."
    return f"Heat map of {len(results)} probes, families by ids. {'. '.join(parts)}. {said}"


def shown(results: Sequence[Result]) -> HTML:
    """Return the heat map for a notebook, with its words for who cannot see it."""
    file = BytesIO()
    heat_map(results).savefig(file, format="png", dpi=DOTS)
    picture = base64.b64encode(file.getvalue()).decode()
    return HTML(f'<img src="data:image/png;base64,{picture}" alt="{escape(alt(results))}" style="max-width: 100%">')


def drawing(results: Sequence[Result]) -> Markdown:
    """Return the Mermaid drawing for a notebook."""
    return Markdown(f"```mermaid\n{mermaid(results)}```")


def mermaid(results: Sequence[Result]) -> str:
    """Return a Mermaid drawing of each profile that was asked, with the counts of these results on its arrows."""
    lines = ["flowchart LR", '  user(["user, outside"])']
    for number, profile in enumerate(PROFILES):
        rows = [one for one in results if one.profile == profile and one.got]
        if rows:
            lines += _drawn(f"p{number}", TITLES[profile], rows)
    return "\n".join(lines) + "\n"


def _drawn(key: str, title: str, rows: list[Result]) -> list[str]:
    outside = [one for one in rows if one.caller == USER]
    stopped = [one for one in outside if _at_gateway(one)]
    inside = [one for one in outside if not _at_gateway(one)]
    callers = sorted({one.caller for one in rows} - {USER})
    lines = [f'  subgraph {key}["{title}"]', f'    {key}_gateway["ingress gateway"]', f'    {key}_app["httpbin"]']
    lines += [f'    {key}_{caller}["{caller}"]' for caller in callers]
    lines += ["  end"]
    at_gateway = f"{len(outside)} asked, {len(stopped)} ended at the gateway"
    lines += [_arrow("user", f"{key}_gateway", at_gateway), _arrow(f"{key}_gateway", f"{key}_app", _flow(inside))]
    for caller in callers:
        own = [one for one in rows if one.caller == caller]
        through = any(one.passed_through for one in own)
        lines.append(_arrow(f"{key}_{caller}", f"{key}_app", _flow(own), "-->" if through else "-.->"))
    return lines


def _arrow(one: str, other: str, words: str, line: str = "-->") -> str:
    return f'  {one} {line}|"{words}"| {other}'


def _flow(rows: Iterable[Result]) -> str:
    every = Counter("through" if one.passed_through else _last(one)[0] for one in rows)
    refused = [f"{count} × {_status(status)}" for status, count in sorted(every.items()) if status != "through"]
    return ", ".join([f"{every['through']} through", *refused])


def _status(status: str) -> str:
    return "no HTTP" if status == "0" else status if len(status) == 3 else f"gRPC {status}"


def _at_gateway(result: Result) -> bool:
    """What the gateway refuses before it has read the headers has no name in its log, and so no hop here."""
    return result.hop == GATEWAY or (not result.hop and _last(result)[1] in UNREAD)


def _last(result: Result) -> tuple[str, str]:
    """Return status and code of the answer, of a sequence the last one's."""
    status, _, code = result.got.rpartition(", ")[2].partition(" ")
    return status, code


def _panel(axes, name: str, rows: list[Result], letters: list[str], numbers: list[int]) -> None:
    cells: dict[tuple[int, int], list[Result]] = {}
    for one in sorted(rows, key=lambda one: (one.id, one.profile)):
        cells.setdefault((numbers.index(_number(one)), letters.index(one.family)), []).append(one)
    for (x, y), shared in cells.items():
        for place, one in enumerate(shared):
            _cell(axes, x + place / len(shared), y, 1 / len(shared), kind(one))
    axes.set(xlim=(0, len(numbers)), ylim=(len(letters), 0))
    axes.set_title(f"{TITLES.get(name, 'workloads under policies of their own')}: {_counted(rows)}", fontsize=9)
    axes.set_xticks([x + 0.5 for x in range(len(numbers))], [f"{number:02}" for number in numbers], fontsize=7)
    axes.set_yticks([y + 0.5 for y in range(len(letters))], [_family(letter) for letter in letters], fontsize=8)
    axes.tick_params(length=0)


def _cell(axes, x: float, y: float, width: float, name: str) -> None:
    sign, colour, _ = KINDS[name]
    axes.add_patch(Rectangle((x, y), width, 1, facecolor=colour, edgecolor="black", linewidth=0.4))
    ink = {"color": "white", "weight": "bold"} if name == "red" else {"color": "black"}
    axes.text(x + width / 2, y + 0.5, sign, ha="center", va="center", fontsize=4 + 5 * width, **ink)


def _panels(results: Iterable[Result]) -> dict[str, list[Result]]:
    panels: dict[str, list[Result]] = {name: [] for name in (*PROFILES, WORLDS)}
    for one in results:
        panels[one.profile if one.profile in PROFILES else WORLDS].append(one)
    return {name: rows for name, rows in panels.items() if rows}


def _counted(rows: Iterable[Result]) -> str:
    every = Counter(kind(one) for one in rows)
    return ", ".join(f"{every[name]} {name}" for name in KINDS if every[name])


def _number(result: Result) -> int:
    return int(result.id[1:3])


def _family(letter: str) -> str:
    return f"{letter} {FAMILIES.get(letter, '')}".strip()
