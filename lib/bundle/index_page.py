"""The bundle's pages: index.html to open first, and each executed notebook as a page; they load nothing.

index.html has one script, which filters its tables; the page allows that one by its digest (CSP) and no other.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from functools import cache
from pathlib import Path

from markupsafe import Markup

from lib.bundle import latency
from lib.record import verdicts
from lib.render import rendered, source

MARKS = {**verdicts.MARKS, "not run": "–"}
WORDS = {"pass": "held", "fail": "did not hold", "error": "broke off", "skipped": "skipped", "waived": "waived"}


def index(run: dict, tables: dict[str, list[dict]], files: list[str]) -> str:
    """Return the page of a sealed run (run.json's content, the tables by file name, the names of its files)."""
    script = source("filter.js")
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
        standing=_standing(run.get("standing")),
        latencies=(found := latency.distributions(tables["responses.csv"])),
        latency=Markup(latency.picture(found)),
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
    """Import what `notebook` and `index` need, which takes some seconds."""
    import nbconvert  # noqa: F401

    from lib.probes.reporting import drawing, heat_map  # noqa: F401
    from lib.steps import overview  # noqa: F401


def notebook(path: Path) -> str:
    """Return the executed notebook as a page, its code folded."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="basic", raw_template=source("cells.html.j2"))
    body, _ = exporter.from_filename(str(path))
    return rendered("notebook.html.j2", title=path.stem, body=body, code_css=_code_css())


def sentence(run: dict) -> str:
    """Return the verdict as a sentence."""
    totals, steps = run["totals"], run["steps"]
    done = [row for row in steps if row["verdict"] != "not run"]
    red = next((row for row in done if row["verdict"] != "pass"), None)
    ran = f"{len(done)} of {len(steps)} steps ran" if len(done) < len(steps) else f"all {len(steps)} steps ran"
    held = f"{totals['passed']} of {totals['checks']} checks held"
    if not red:
        return f"{'Passed' if run['verdict'] == 'pass' else 'Interrupted'}: {ran}, {held}."
    word = "Failed" if red["verdict"] == "fail" else "Ended by an error"
    return f"{word} in {red['step']}: {red['error'].rstrip('.')}. {ran.capitalize()}, {held}."


def bars(steps: list[dict], started: str, seconds: float) -> dict[str, tuple[float, float]]:
    """Return each step's place on the time line: where it starts and how long it is, in percent."""
    whole, begin = max(seconds, 0.001), datetime.fromisoformat(started)
    ran = [row for row in steps if row["started"]]
    offsets = {row["step"]: (datetime.fromisoformat(row["started"]) - begin).total_seconds() for row in ran}
    return {
        row["step"]: (round(100 * offsets[row["step"]] / whole, 2), max(0.5, round(100 * row["seconds"] / whole, 2)))
        for row in ran
    }


def side_by_side(responses: list[dict]) -> list[dict]:
    """Return one row for each request, caller and token, with the answers by figure in `by`; the last one counts."""
    return _grouped(responses, "request", "caller", "token")


def by_probe(responses: list[dict]) -> list[dict]:
    """Return one row for each probe, its answers by figure in `by`, red ones first; the last answer counts."""
    rows = _grouped(responses, "probe")
    return sorted(rows, key=lambda row: min(map(_place, row["by"].values())))


def _place(row: dict) -> int:
    """Red rows come first, waived ones next, then all others as they were."""
    return 0 if row["verdict"] in verdicts.RED else 1 if row["verdict"] == verdicts.WAIVED else 2


def _pictures(responses: list[dict], addresses: dict[str, str]) -> dict[str, Markup]:
    """Of a probe that was sent twice to the same place the last result counts."""
    from lib.probes.reporting import drawing, heat_map, results

    last = [*{(row["probe"], row["figure"]): results.from_row(row) for row in responses}.values()]
    if not last:
        return {"built": Markup(), "heat_map": Markup()}
    return {"built": Markup(drawing.drawing(last, addresses)), "heat_map": Markup(heat_map.heat_map(last))}


def _standing(found: dict | None) -> Markup:
    """What stood at the end; a bundle of before has nothing about it."""
    from lib.steps import overview

    return Markup(overview.drawing(found)) if found else Markup()


def _grouped(responses: list[dict], *keys: str) -> list[dict]:
    rows: dict[tuple, dict] = {}
    for one in responses:
        row = rows.setdefault(tuple(one[key] for key in keys), {**one, "by": {}})
        row["by"][str(one["figure"])] = one
    return [{**row, "verdicts": sorted({one["verdict"] for one in row["by"].values()})} for row in rows.values()]


@cache
def _code_css() -> str:
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
