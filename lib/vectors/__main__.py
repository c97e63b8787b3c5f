"""Send public test vectors to a real Envoy, and explain each difference: `python -m lib.vectors --envoy … --vectors …`.

Exit code 0: every difference has a known reason; 1: a difference has none; 2: the command could not run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lib import spreadsheet
from lib.crypto.base64url import decoded
from lib.errors import RunbookError
from lib.files import require_folders_of
from lib.istio import answers
from lib.probes.transport.messages import Reply, Request, Transport
from lib.probes.transport.sockets import over_sockets
from lib.redact import clean
from lib.vectors import envoy, model, resign
from lib.vectors.deviations import AGREES, LAXER, STRICTER, UNSENDABLE, Judged, explained
from lib.vectors.model import Vector
from lib.vectors.resign import Derived

PLAIN, CLAIMS = "as it is", "on JSON claims"
VERDICTS = (AGREES, STRICTER, LAXER, UNSENDABLE)
TIMELESS = "-timeless"  # ends the path where no token is too old, for expired examples
WORKERS = 8


@dataclass(frozen=True)
class Row:
    """One vector in one form: the expected result, Envoy's answer, and the reason of a difference.

    `form` is PLAIN or CLAIMS; `how` describes how the token was made. `rule` and `reason` are "" if Envoy agrees, or if
    no rule explains the difference.
    """

    group: str
    number: str
    comment: str
    flags: str
    form: str
    how: str
    expected: str
    got: str
    verdict: str
    rule: str = ""
    reason: str = ""

    @property
    def unexplained(self) -> bool:
        """Whether Envoy differs and no rule explains it."""
        return self.verdict in (STRICTER, LAXER) and not self.rule


def judge(program: Path, vectors: Sequence[Vector]) -> list[Row]:
    """Send the vectors to the Envoy `program`, each in both forms, and return the rows."""
    forms = [(one, PLAIN, Derived(one.jws, "as published")) for one in vectors]
    forms += [(one, CLAIMS, new) for one, new in zip(vectors, _derived(vectors), strict=True)]
    loaded, refused = envoy.loadable(program, sets(vectors))
    timeless = [replace(one, name=one.name + TIMELESS, skew=envoy.ANY_TIME) for one in loaded]
    with envoy.running(program, [*loaded, *timeless]) as address:
        return compare(forms, over_sockets(address, WORKERS), refused)


def sets(vectors: Iterable[Vector]) -> list[envoy.KeySet]:
    """Return the vectors' sets of keys, one for each group."""
    return [envoy.KeySet(name, jwks) for name, jwks in {one.group: one.jwks for one in vectors}.items()]


def compare(forms: Sequence[tuple[Vector, str, Derived]], send: Transport, refused: dict[str, str]) -> list[Row]:
    """Send the forms, and return a row for each.

    Args:
        forms: A vector, the name of its form, and the token to send.
        send: Sends the requests.
        refused: Why Envoy does not load the keys of a group, by group. The vectors of these groups are not sent.
    """
    sendable = [index for index, (one, _, _) in enumerate(forms) if not one.unsendable and one.group not in refused]
    replies = dict(zip(sendable, send([_request(*forms[index]) for index in sendable]), strict=True))
    valid: dict[str, set[str]] = {}
    for one, _, _ in forms:
        if one.result == "valid":
            valid.setdefault(one.group, set()).add(one.jws)
    got = {index: answer(reply) for index, reply in replies.items()}
    rows = []
    for index, (one, form, new) in enumerate(forms):
        reply = got.get(index) or (UNSENDABLE if one.unsendable else f"not loaded: {refused[one.group]}")
        judged = Judged(one, new.jws, reply, frozenset(valid.get(one.group, ())))
        rows.append(_row(judged, form, new.how))
    return rows


def answer(reply: Reply) -> str:
    """Return Envoy's answer as a short code such as `401 J18`, or its status and text if it has no code."""
    short = reply.answer
    return short if reply.status == 200 or short.split()[-1] != "app" else f"{reply.status} {reply.body.strip()[:100]}"


def counts(rows: Iterable[Row]) -> Counter:
    """Return how many rows there are by family (jws, jwk, rfc), form and verdict."""
    return Counter((row.group[:3], row.form, row.verdict) for row in rows)


def write(rows: Iterable[Row], path: Path) -> None:
    """Write the rows as CSV, without the tokens."""
    lines = [asdict(row) for row in rows]
    path.write_text(spreadsheet.text(list(lines[0]), (list(line.values()) for line in lines)), encoding="utf-8")


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the counts, each difference with its reason, and Envoy's answers to the other invalid vectors."""
    console.print(_counted(rows))
    console.print(_differences(rows))
    refusals = Counter((row.form, row.got) for row in rows if row.expected == "invalid" and row.verdict == AGREES)
    console.print("Invalid vectors were refused with:", style="bold")
    for (form, words), number in sorted(refusals.items(), key=lambda one: (one[0][0], -one[1])):
        meaning = answers.MEANINGS.get(words.split()[-1], "")
        console.print(escape(f"  {form:<15}{number:>4}  {words}  {meaning}"), highlight=False)


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """Judge all vectors and examples, print the tables, and return the exit code."""
    parser = argparse.ArgumentParser("python -m lib.vectors", description=__doc__.partition("\n")[0])
    parser.add_argument("--envoy", type=Path, required=True, metavar="PROGRAM")
    parser.add_argument("--vectors", type=Path, required=True, metavar="FOLDER", help="Wycheproof's testvectors_v1")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="one line for each vector and form")
    given = parser.parse_args(arguments)
    console = console or Console()
    try:
        require_folders_of(given.csv)
        rows = judge(given.envoy, [*model.load(given.vectors), *model.examples()])
        if given.csv:
            write(rows, given.csv)
    except (RunbookError, OSError) as error:
        print(clean(str(error)), file=sys.stderr)
        return 2
    show(rows, console)
    left = [row for row in rows if row.unexplained]
    for row in left:
        console.print(escape(f"no reason known: {row.verdict} {row.group} {row.number} {row.comment}: {row.got}"))
    return 1 if left else 0


def _derived(vectors: Sequence[Vector]) -> list[Derived]:
    """Return the vectors on JSON claims. A vector that has JSON claims stays as it is; its age is ignored."""
    stay = [one for one in vectors if _has_claims(one) or one.unsendable]
    go = [one for one in vectors if one not in stay]
    made = {id(one): new for one, new in zip(go, resign.derive(go), strict=True)}
    return [made.get(id(one)) or Derived(one.jws, "as published, its age ignored") for one in vectors]


def _has_claims(one: Vector) -> bool:
    parts = one.jws.split(".")
    try:
        return isinstance(json.loads(decoded(parts[1])), dict)
    except (ValueError, IndexError):
        return False


def _request(one: Vector, form: str, new: Derived) -> Request:
    path = one.group + (TIMELESS if form == CLAIMS else "")
    return Request("GET", f"/{path}", ("Host: bare.example", f"Authorization: Bearer {new.jws}"))


def _row(judged: Judged, form: str, how: str) -> Row:
    one, passed = judged.vector, judged.answer.startswith("200")
    verdict = UNSENDABLE if one.unsendable else _verdict(one.result, passed)
    rule = explained(verdict, judged)
    flags = " ".join(one.flags)
    plain = Row(one.group, one.number, one.comment, flags, form, how, one.result, judged.answer, verdict)
    if one.unsendable:
        return replace(plain, reason=one.unsendable)
    return replace(plain, rule=rule.name, reason=rule.reason) if rule else plain


def _verdict(result: str, passed: bool) -> str:
    if result == "acceptable" or passed == (result == "valid"):
        return AGREES
    return LAXER if passed else STRICTER


def _counted(rows: Sequence[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, title="Envoy and the vectors", title_justify="left")
    for name in ("vectors", "form", *VERDICTS):
        table.add_column(name, justify="right" if name in VERDICTS else "left")
    every = counts(rows)
    for family, form in dict.fromkeys((row.group[:3], row.form) for row in rows):
        table.add_row(family, form, *(str(every[family, form, verdict]) for verdict in VERDICTS))
    return table


def _differences(rows: Sequence[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, title="Where they differ, and why", title_justify="left")
    for name in ("verdict", "form", "rows", "which", "why"):
        table.add_column(name, overflow="fold", max_width=26 if name == "which" else None)
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        if row.verdict != AGREES:
            found.setdefault((row.verdict, row.form, row.reason or "no reason known"), []).append(row)
    for (verdict, form, reason), some in sorted(found.items(), key=lambda one: VERDICTS.index(one[0][0])):
        names = [f"{row.group} {row.number}" if row.group[:3] != "rfc" else row.number for row in some]
        which = ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
        style = "red" if any(row.unexplained for row in some) else "yellow" if verdict == LAXER else None
        table.add_row(verdict, form, str(len(some)), escape(which), escape(reason), style=style)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
