"""Attacks on a sealed bundle, and the table of what `verify` says of each: docs/record-attacks.md.

`python -m tests.support.attacks > docs/record-attacks.md` writes the table again.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lib import strict
from lib.bundle import audit, provenance, seal, signing_key
from lib.printable import printable
from tests.support.sealed_bundle import NOW, edit, sealed

SIGNER = Ed25519PrivateKey.from_private_bytes(b"signer's key of these attacks..!")
STRANGER = Ed25519PrivateKey.from_private_bytes(b"a key that nobody trusts, 32 B.!")
SUMS, STATEMENT = seal.SUMS, provenance.FILE
OUTSIDER, SIGNS = "no key", "the signer's key"

Act = Callable[[Path], object]


@dataclass(frozen=True)
class Attack:
    """What is done to the newest of three runs, who can do it, and words of the sentence that tells of it."""

    name: str
    act: Act
    words: str
    who: str = OUTSIDER


def resign(folder, key=SIGNER):
    """Forge all that a signer can: sums, and a statement that fits."""
    names = seal.files(folder)
    (folder / SUMS).write_text("".join(f"{strict.digest(folder / name)}  {name}\n" for name in names))
    restate(folder, key)


def restate(folder, key=SIGNER):
    run = json.loads((folder / "run.json").read_text())
    (folder / STATEMENT).write_text(provenance.sign(provenance.statement(run, SUMS, strict.digest(folder / SUMS)), key))


def signed(name, act, words):
    """An attack after which the signer signs again."""

    def both(folder):
        after = act(folder)
        resign(after or folder)
        return after

    return Attack(name, both, words, SIGNS)


def run_json(change):
    def act(folder):
        run = json.loads((folder / "run.json").read_text())
        change(run)
        (folder / "run.json").write_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n")

    return act


def events(change):
    def act(folder):
        path = folder / "events" / "01-a.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(event, ensure_ascii=False) + "\n" for event in change(lines)))

    return act


def envelope(change):
    def act(folder):
        value = json.loads((folder / STATEMENT).read_text())
        (folder / STATEMENT).write_text(json.dumps(change(value) or value, indent=1) + "\n")

    return act


def append(name, text):
    def act(folder):
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(text)

    return act


def write(name, text):
    def act(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return act


def remove(name):
    return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def rename(folder):
    return folder.rename(folder.with_name("20261231T235959Z-cafebabe"))


def replace_newest(folder):
    """The green run before the newest takes the newest run's place and name."""
    before = sorted(folder.parent.iterdir())[1]
    shutil.rmtree(folder)
    return before.rename(folder)


def drop_middle(folder):
    shutil.rmtree(sorted(folder.parent.iterdir())[1])


def drop_first_and_middle_seal(folder):
    (sorted(folder.parent.iterdir())[1] / SUMS).unlink()


def sparse(name):
    def act(folder):
        with (folder / name).open("wb") as file:
            file.truncate(10**12)  # bytes, none of them on the disk

    return act


def link_index(folder):
    outside = folder.parent.parent / "index.html"
    shutil.copy(folder / "index.html", outside)
    (folder / "index.html").unlink()
    (folder / "index.html").symlink_to(outside)


def stranger(folder):
    edit("index.html", "</main>", "<p>all is well</p></main>")(folder)
    (folder / "signer.pem").write_text(signing_key.pem(STRANGER.public_key()))
    resign(folder, STRANGER)


def second_signature(first):
    def change(value):
        other = {"sig": base64.b64encode(b"\0" * 64).decode(), "keyid": "auditor@example.org"}
        value["signatures"] = [other, *value["signatures"]] if first else [*value["signatures"], other]

    return envelope(change)


def doubled_key(folder):
    text = (folder / STATEMENT).read_text()
    (folder / STATEMENT).write_text(text.replace('{\n "payload"', '{\n "payload": "bGll",\n "payload"', 1))


def doubled_run_key(folder):
    edit("run.json", '  "totals"', '  "verdict": "fail",\n  "totals"')(folder)


def doubled_sum(folder):
    first = (folder / SUMS).read_text().splitlines(keepends=True)[0]
    (folder / SUMS).write_text(f"{'0' * 64}  {first[66:]}" + (folder / SUMS).read_text())
    restate(folder)


def other_line_ends(folder):
    (folder / SUMS).write_text((folder / SUMS).read_text().replace("\n", "\x0b"))
    restate(folder)


def all_fail(lines):
    return [{**one, "verdict": "fail", "passed": False} if "verdict" in one else one for one in lines]


def setting(place, value):
    def change(run):
        *path, last = place
        for key in path:
            run = run[key]
        run[last] = value

    return run_json(change)


def swap_real(run):
    run["real"], run["emulated"] = run["emulated"], run["real"]


FORGED = "\x1b[2J\x1b[H"
ATTACKS = [
    *(
        Attack(f"{name} edited", append(name, " "), f"{name} was changed")
        for name in (
            "assessment-plan.json", "assessment-results.json", "changes.csv", "checks.csv", "component-definition.json",
            "events/01-a.jsonl", "html/01-a.html", "index.html", "junit.xml",
            "notebooks/01-a.ipynb", "objects/01-a.yaml", "params.yml", "responses.csv", "run.json",
            "signer.pem", "tokens.csv",
        )
    ),
    Attack("a file removed", remove("tokens.csv"), "tokens.csv is missing"),
    Attack("a file added", write("setup.exe", "x"), "setup.exe was added"),
    Attack("a time stamp added", write("provenance.tsr", "x"), "provenance.tsr was added"),
    Attack("a garbage line in the events", append("events/01-a.jsonl", "garbage\n"), "is no event"),
    Attack("a deep JSON as run.json", write("run.json", "[" * 200_000), "run.json is not readable"),
    Attack("an empty folder with a message as name", lambda folder: (folder / "all is well").mkdir(), "The folder all"),
    Attack("a file whose name clears the screen", write(f"{FORGED}/whole", ""), "\\x1b[2J\\x1b[H/whole was added"),
    Attack("index.html as a link to an equal file", link_index, "index.html is a symbolic link"),
    Attack("a page of 1 TB without content", sparse("html/01-a.html"), "was not searched for secrets: it has"),
    Attack("a notebook of 1 TB without content", sparse("notebooks/01-a.ipynb"), "cannot be compared with what its"),
    Attack("SHA256SUMS removed", remove(SUMS), "SHA256SUMS was removed"),
    Attack("the folder renamed to another day", rename, "The folder is named 20261231T235959Z-cafebabe"),
    Attack("an older green run under the newest run's name", replace_newest, "another run took its place"),
    Attack("the run before it removed", drop_middle, "the run before this one, was removed"),
    Attack("the seal of the run before it removed", drop_first_and_middle_seal, "its SHA256SUMS was removed"),
    Attack("signed again by another key", stranger, "which is not a trusted key"),
    Attack("a field more in the statement", envelope(lambda value: {**value, "auditor": "approved"}), "nobody signed"),
    Attack("a second signature", second_signature(False), "it has 2 signatures"),
    Attack("another first signature", second_signature(True), "it has 2 signatures"),
    Attack("a field more in a signature", envelope(lambda one: one["signatures"][0].update(alg="x")), "nobody signed"),
    Attack("a doubled key in the statement", doubled_key, "is there twice"),
    Attack("spaces in the statement", append(STATEMENT, " \n"), "nobody signed"),
    Attack("another payloadType", envelope(lambda value: {**value, "payloadType": "text/plain"}), "its payloadType is"),
    Attack("a payload that is a list", envelope(lambda one: {**one, "payload": "W10="}), "holds no signed statement"),
    signed("responses that failed, as passed", events(lambda lines: [
        {**one, "got": 200, "expected": 403} if one["event"] == "response" else one for one in lines
    ]), "passed, but it expected 403 and got 200"),
    signed("responses.csv: passed False", edit("responses.csv", ",True,", ",False,"), "responses.csv, line 2"),
    signed("checks.csv: another actual value", edit("checks.csv", "ready,1,1", "ready,1,2"), "checks.csv, line 2"),
    signed("all events of a step fail", events(all_fail), "its checks make it fail"),
    signed("the events removed", remove("events"), "steps.01-a.checks: the events make it 0, the file has 3"),
    signed("evidence edited", append("objects/01-a.yaml", "# more\n"), "is not the file that an event"),
    signed("evidence removed", remove("objects/01-a.yaml"), "is missing, though an event"),
    signed("evidence that no event names", write("mesh/01-a.json", "{}"), "mesh/01-a.json is named by no event"),
    signed("a row of an unknown step", append("checks.csv", "99-z,,a,1,2,fail,False,1,1,\n"), "checks.csv, line 3"),
    signed("a step taken out", run_json(lambda run: run["steps"].pop(0)), "is no file that a run leaves"),
    signed("a step twice", run_json(lambda run: run["steps"].append(run["steps"][0])), "lists a step twice"),
    signed("events before the run", edit("events/01-a.jsonl", "T12:00:02", "T11:00:02"), "are not within the run"),
    signed("events of the year 9999", edit("events/01-a.jsonl", '"at": "2026-', '"at": "9999-'), "are not within"),
    signed("events in another order", events(lambda lines: lines[::-1]), "responses.csv, line 2: the events make it"),
    signed("negative seconds", edit("events/01-a.jsonl", '"seconds": 0.1', '"seconds": -0.1'), "seconds is no number"),
    signed("a million digits", edit("events/01-a.jsonl", '"tries": 1', '"tries": ' + "9" * 10**6), "is no event"),
    signed("a doubled key in an event", edit("events/01-a.jsonl", '"tries": 5', '"tries": 1, "tries": 5'), "twice"),
    signed("a file whose name differs in case", write("Index.html", "x"), "Index.html is no file that a run leaves"),
    signed("an unknown verdict", edit("events/01-a.jsonl", '"verdict": "pass"', '"verdict": "A"'), "no verdict"),
    signed("totals that are no sums", setting(("totals", "passed"), 9999), "run.json, totals.passed"),
    signed("a count of a step", setting(("steps", 0, "created"), 7), "run.json, steps.01-a.created"),
    signed("an error on a passed step", setting(("steps", 0, "error"), "x"), "run.json has an error for 01-a"),
    signed("real and emulated swapped", run_json(swap_real), "run.json, real: "),
    signed("another cluster", setting(("cluster", "cluster_arn"), "arn:x"), "run.json, cluster.cluster_arn"),
    signed("another version of istiod", setting(("versions", "cluster", "istiod"), "9"), "versions.cluster.istiod"),
    signed("another image digest", setting(("images", "istio/pilot:1"), "sha256:0"), "run.json, images.istio/pilot:1"),
    signed("a start that is no time", setting(("started",), "0000-99-99T99:99:99.999Z"), "is no time"),
    signed("a start after the events", setting(("started",), "2026-01-31T12:00:09.000Z"), "are not within the run"),
    signed("an end in 2099", setting(("finished",), "2099-01-31T12:00:09.000Z"), "its clock went"),
    signed("seconds that are no number", edit("run.json", '"seconds": 10.0', '"seconds": NaN'), "NaN is no number"),
    signed("seconds without end", edit("run.json", '"seconds": 10.0', '"seconds": 1e15'), "does not follow its schema"),
    signed("an exit code that does not fit", setting(("exit_code",), 1), "run.json, exit_code"),
    signed("a lie in index.html", edit("index.html", "</main>", "<p>well</p></main>"), "index.html, line"),
    signed("index.html removed", remove("index.html"), "index.html: it is not readable"),
    signed("a lie in a page", edit("html/01-a.html", "</body>", "<p>well</p></body>"), "is not the page"),
    signed("a page removed", remove("html/01-a.html"), "the page of notebooks/01-a.ipynb, is missing"),
    signed("a notebook that is none", write("notebooks/01-a.ipynb", "{}"), "is no notebook"),
    signed("failures in junit.xml", edit("junit.xml", 'failures="0"', 'failures="100"'), "junit.xml, line"),
    signed("a control less in the plan", edit("assessment-plan.json", "au-10", "au-11"), "assessment-plan.json, line"),
    signed("another workload", edit("component-definition.json", "mutual TLS", "TLS"), "component-definition.json, l"),
    signed("an empty assessment", write("assessment-results.json", "{}"), "assessment-results.json, line 1"),
    signed("tokens.csv emptied", write("tokens.csv", ""), "tokens.csv, line 1"),
    signed("changes.csv emptied", write("changes.csv", ""), "changes.csv, line 1"),
    signed("other params", edit("params.yml", "streak: 5", "streak: 1"), "params.yml, line 2"),
    signed("a doubled key in run.json", doubled_run_key, "the key 'verdict' is there twice"),
    signed("another order in run.json", run_json(lambda run: run.update(env=run.pop("env"))), "is not written as"),
    signed("signer.pem of a third key", write("signer.pem", signing_key.pem(STRANGER.public_key())), "is not the key"),
    signed("another name in run.json", setting(("run",), "20270101T000000Z-aaaaaaaa"), "The folder is named"),
    signed("an extra program", write("setup.exe", "x"), "setup.exe is no file that a run leaves"),
    Attack("a doubled, wrong line in SHA256SUMS", doubled_sum, "each name once", SIGNS),
    Attack("other line ends in SHA256SUMS", other_line_ends, "one line a file", SIGNS),
]  # fmt: skip


def target(place: Path) -> Path:
    """Seal three runs of an environment in `place` and return the newest."""
    times = [NOW + timedelta(hours=number) for number in range(3)]
    return [sealed(place, now=time, key=SIGNER, evidence=True)[0] for time in times][-1]


def said(attack: Attack, three: Path, place: Path) -> tuple[list[str], bool]:
    """Make an attack on a copy of the three runs; return what `make verify` prints, and whether it found a problem."""
    copy = place / "tiny"
    shutil.copytree(three.parent, copy)
    folder = attack.act(copy / three.name) or copy / three.name
    lines, problem = audit.bundle(folder, [SIGNER.public_key()])
    return [printable(line, len(line)).replace(str(place), "…") for line in lines], problem


def sentence(attack: Attack, lines: list[str]) -> str:
    """Return the line that has the attack's words, "" if none has."""
    return next((line for line in lines if attack.words in line), "")


def table(sentences: dict[str, str]) -> str:
    """Return the document: a row for each attack, with the sentence about it."""
    head = (Path(__file__).parent / "attacks.md").read_text(encoding="utf-8")
    rows = (
        f"| {one.name} | {one.who} | {re.sub(r'([|<>`*_])', lambda found: chr(92) + found[0], sentences[one.name])} |"
        for one in ATTACKS
    )
    return f"{head}\n| attack | needs | `make verify` says |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        three = target(Path(scratch))
        sentences = {}
        for number, attack in enumerate(ATTACKS):
            place = Path(scratch) / str(number)
            place.mkdir()
            sentences[attack.name] = sentence(attack, said(attack, three, place)[0])
    print(table(sentences), end="")


if __name__ == "__main__":
    main()
