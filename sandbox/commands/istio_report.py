"""The tables of docs/conformance.md about Istio's own security suites, from the logs of their Go tests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

OUTCOMES = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}
_RESULT = re.compile(r"^( *)--- (PASS|FAIL|SKIP): (\S+) \(")
_CURRENT = re.compile(r"^=== (?:RUN|CONT|NAME) +(\S+)")
_MESSAGE = re.compile(r"^ +(\w+\.go:\d+): ?(.*)")


def results(log: str) -> dict[str, dict]:
    """Return the results of each test, from the log of a suite.

    A case is a subtest without subtests, or a test that has none.

    Returns:
        By the test's name: its outcome; passed, the number of cases; and not_passed, absent if all cases passed: a list
        of {outcome, message (the place in the test's source, and its sentence), cases (how many)}.
    """
    tests: dict[str, dict] = {}
    not_passed: Counter[tuple[str, str, str]] = Counter()
    messages = _last_messages(log)
    found = [match.groups() for match in map(_RESULT.match, log.splitlines()) if match]
    for (indent, word, name), following in zip(found, [*found[1:], ("", "", "")], strict=False):
        outcome, test = OUTCOMES[word], name.split("/")[0]
        if not indent:
            tests[test] = {"outcome": outcome, "passed": 0}
        if len(following[0]) > len(indent):
            continue  # its subtests are next
        if outcome == "passed":
            tests[test]["passed"] += 1
        else:
            not_passed[test, outcome, messages.get(name, "")] += 1
    for test in re.findall(r"^=== RUN +([^/\s]+)$", log, re.M):
        if test not in tests:  # the suite's time was over, or the program ended
            tests[test] = {"outcome": "failed", "passed": 0}
            not_passed[test, "failed", messages.get(test, "")] += 1
    for (test, outcome, message), cases in not_passed.items():
        row = {"outcome": outcome, "message": message, "cases": cases}
        tests[test].setdefault("not_passed", []).append(row)
    return tests


def _last_messages(log: str) -> dict[str, str]:
    """Return the last message of each test: its place in the source, and its sentence."""
    messages: dict[str, str] = {}
    current = ""
    for line in log.splitlines():
        if match := _CURRENT.match(line):
            current = match[1]
        elif match := _MESSAGE.match(line):
            messages[current] = f"{match[1]} {match[2]}".strip()
    return messages


def tables(report: dict) -> str:
    """Return two Markdown tables: the counts of each suite, and what did not pass, with its reason.

    Args:
        report: its suites by name, each with its seconds and its tests' results.
    """
    head = "tests passed | failed | skipped | cases passed | failed | skipped | minutes"
    lines = [f"| suite | {head} |", "|---|---|---|---|---|---|---|---|"]
    for name, suite in report["suites"].items():
        tests = Counter(test["outcome"] for test in suite["tests"].values())
        cases = Counter(passed=sum(test["passed"] for test in suite["tests"].values()))
        for _, row in _not_passed(suite):
            cases[row["outcome"]] += row["cases"]
        figures = [str(counts[word]) for counts in (tests, cases) for word in OUTCOMES.values()]
        lines.append(f"| `{name}` | {' | '.join(figures)} | {suite['seconds'] / 60:.0f} |")
    lines += ["", "| suite | test | outcome | cases | reason |", "|---|---|---|---|---|"]
    for name, suite in report["suites"].items():
        for test, row in _not_passed(suite):
            why = reason(row) or "unknown"
            lines.append(f"| `{name}` | `{test}` | {row['outcome']} | {row['cases']} | {why} |")
    return "\n".join(lines)


def reason(row: dict) -> str:
    """Return why cases did not pass: the reason that a person added, or a skipped test's own sentence, or ""."""
    return row.get("reason") or (row["message"].partition(" ")[2] if row["outcome"] == "skipped" else "")


def unexplained(report: dict) -> list[str]:
    """Return the suites that ran no test, and the tests that did not pass for an unknown reason."""
    suites = report["suites"].items()
    rows = [test for _, suite in suites for test, row in _not_passed(suite) if not reason(row)]
    return [name for name, suite in suites if not suite["tests"]] + rows


def _not_passed(suite: dict) -> Iterator[tuple[str, dict]]:
    for name, test in suite["tests"].items():
        yield from ((name, row) for row in test.get("not_passed", ()))
