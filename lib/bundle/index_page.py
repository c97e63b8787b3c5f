"""The bundle's pages: index.html, and each executed notebook as a page. They load nothing.

index.html has one script, which filters its tables. Its Content-Security-Policy allows only that script, by its digest.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib.bundle import latency
from lib.bundle.sanitised import sanitised
from lib.record import verdicts
from lib.render import rendered, source

if TYPE_CHECKING:
    from nbconvert import HTMLExporter

MARKS = {**verdicts.MARKS, "not run": "–"}
WORDS = {"pass": "passed", "fail": "failed", "error": "error", "skipped": "skipped", "waived": "waived"}


def index(run: dict, tables: dict[str, list[dict]], files: list[str]) -> str:
    """Return index.html: `run` is the content of run.json, `tables` are the rows by file name, `files` all names."""
    script = source("filter.js")
    latencies = latency.distributions(tables["responses.csv"])
    probes = [row for row in tables["responses.csv"] if row.get("probe")]
    cases = [row for row in tables["responses.csv"] if not row.get("probe")]
    return rendered(
        "index.html.j2",
        run=run,
        sentence=sentence(run),
        bars=bars(run["steps"], run["started"], run["seconds"]),
        figures=sorted({str(row["figure"]) for row in cases}),
        responses=side_by_side(cases),
        places=list(dict.fromkeys(str(row["figure"]) for row in probes)),
        probes=by_probe(probes),
        **_pictures(probes, run["addresses"]),
        standing=_overview(run.get("standing")),
        bypasses=_bypasses(run.get("standing"), probes),
        latencies=latencies,
        latency=Markup(latency.picture(latencies)),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        checks=sorted(tables["checks.csv"], key=_place),
        tokens=tables["tokens.csv"],
        changes=[row for row in tables["changes.csv"] if row["action"] != "unchanged"],
        files=files,
        marks=MARKS,
        words=WORDS,
    )


def prepare() -> None:
    """Import what `notebook` and `index` need and compile their templates, which takes some seconds."""
    from lib.probes.reporting import drawing, heat_map  # noqa: F401
    from lib.steps import overview  # noqa: F401

    _ = _exporter().template


def notebook(path: Path) -> str:
    """Return an executed notebook as a page with its code folded."""
    import nbformat
    from nbconvert.exporters import TemplateExporter

    # HTMLExporter's own method would parse the page again to add attributes, which takes half of the time.
    body, _ = TemplateExporter.from_notebook_node(_exporter(), nbformat.read(path, as_version=4))
    body, drawings_css = sanitised(body)
    return rendered("notebook.html.j2", title=path.stem, body=body, code_css=_code_css(), drawings_css=drawings_css)


def sentence(run: dict) -> str:
    """Return the verdict as a sentence."""
    totals, steps = run["totals"], run["steps"]
    done = [row for row in steps if row["verdict"] != "not run"]
    red = next((row for row in done if row["verdict"] != "pass"), None)
    ran = f"{len(done)} of {len(steps)} steps ran" if len(done) < len(steps) else f"all {len(steps)} steps ran"
    passed = f"{totals['passed']} of {totals['checks']} checks passed"
    if not red:
        return f"{'Passed' if run['verdict'] == 'pass' else 'Interrupted'}: {ran}, {passed}."
    word = "Failed" if red["verdict"] == "fail" else "Ended by an error"
    return f"{word} in {red['step']}: {red['error'].rstrip('.')}. {ran.capitalize()}, {passed}."


def bars(steps: list[dict], started: str, seconds: float) -> dict[str, tuple[float, float]]:
    """Return each step's start and length on the time line, in percent of the run."""
    whole, start = max(seconds, 0.001), datetime.fromisoformat(started)
    ran = [row for row in steps if row["started"]]
    offsets = {row["step"]: (datetime.fromisoformat(row["started"]) - start).total_seconds() for row in ran}
    return {
        row["step"]: (round(100 * offsets[row["step"]] / whole, 2), max(0.5, round(100 * row["seconds"] / whole, 2)))
        for row in ran
    }


def side_by_side(responses: list[dict]) -> list[dict]:
    """Return a row for each request, caller and token, with its last answer at each figure in `by`."""
    return _grouped(responses, "request", "caller", "token")


def by_probe(responses: list[dict]) -> list[dict]:
    """Return a row for each probe, with its last answer at each figure in `by`; red rows come first."""
    rows = _grouped(responses, "probe")
    return sorted(rows, key=lambda row: min(map(_place, row["by"].values())))


def _place(row: dict) -> int:
    """Return the rank of a row: red rows first, waived rows next, then the rest in their order."""
    return 0 if row["verdict"] in verdicts.RED else 1 if row["verdict"] == verdicts.WAIVED else 2


def _pictures(responses: list[dict], addresses: dict[str, str]) -> dict[str, Markup]:
    """Return the drawing and the heat map of the probes, with the last result of each probe at each figure."""
    from lib.probes.reporting import drawing, heat_map, results

    last = [*{(row["probe"], row["figure"]): results.from_row(row) for row in responses}.values()]
    if not last:
        return {"built": Markup(), "heat_map": Markup()}
    return {"built": Markup(drawing.drawing(last, addresses)), "heat_map": Markup(heat_map.heat_map(last))}


def _overview(standing: dict | None) -> Markup:
    """Return the drawing of the cluster at the end; old bundles have no facts for it."""
    from lib.steps import overview

    return Markup(overview.drawing(standing)) if standing else Markup()


def _bypasses(standing: dict | None, probes: list[dict]) -> list[dict]:
    """Return a row for each kind of way around the policies, [] if the run did not read them."""
    from lib.diagnose.bypasses import KINDS

    if not standing or "bypasses" not in standing:
        return []
    by_id: dict[str, list[str]] = {}
    for row in probes:
        by_id.setdefault(row["probe"], []).append(row["verdict"])
    return [
        {
            "kind": kind,
            "means": means,
            "places": standing["bypasses"].get(kind, {}),
            "tried": {one: verdicts.worst(by_id[one]) for one in tried.split() if one in by_id},
        }
        for kind, (means, tried) in KINDS.items()
    ]


def _grouped(responses: list[dict], *keys: str) -> list[dict]:
    rows: dict[tuple, dict] = {}
    for response in responses:
        row = rows.setdefault(tuple(response[key] for key in keys), {**response, "by": {}})
        row["by"][str(response["figure"])] = response
    return [{**row, "verdicts": sorted({answer["verdict"] for answer in row["by"].values()})} for row in rows.values()]


@cache
def _exporter() -> HTMLExporter:
    """Return what makes a notebook's HTML. It does not sanitise, as `sanitised` does so with the whole page."""
    from nbconvert import HTMLExporter
    from nbconvert.filters import Highlight2HTML

    exporter = HTMLExporter(template_name="basic", raw_template=source("cells.html.j2"))
    exporter.register_filter("highlight_code", Highlight2HTML(pygments_lexer="ipython3", parent=exporter))
    exporter.register_filter("clean_html", lambda html: html)
    return exporter


@cache
def _code_css() -> str:
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
