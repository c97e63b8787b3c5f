"""JUnit XML for CI systems: suites of cases that passed, failed, broke or were skipped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lib.record import verdicts

PASSED, FAILED, BROKE, SKIPPED = "passed", "failure", "error", "skipped"  # the last three are elements of a testcase
OUTCOMES = {verdicts.PASS: PASSED, verdicts.FAIL: FAILED, verdicts.ERROR: BROKE}
NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


@dataclass(frozen=True)
class TestCase:
    """One case of a suite: `verdict` is one of verdicts.VERDICTS, `message` says why, `text` what came."""

    suite: str
    classname: str
    name: str
    seconds: float
    verdict: str
    message: str = ""
    text: str = ""

    @property
    def outcome(self) -> str:
        """JUnit's word for the verdict. JUnit has no waivers: a waived case counts as skipped."""
        return OUTCOMES.get(self.verdict, SKIPPED)


def document(cases: Iterable[TestCase], name: str) -> str:
    """Return the cases as JUnit XML, grouped by suite, times in seconds."""
    suites: dict[str, list[TestCase]] = {}
    for case in cases:
        suites.setdefault(case.suite, []).append(case)
    root = ET.Element("testsuites", name=xml_text(name))
    root.extend(_suite(title, members) for title, members in suites.items())
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def xml_text(text: str) -> str:
    """Return the text with `?` for each character that XML 1.0 cannot contain."""
    return NOT_XML.sub("?", text)


def _suite(title: str, cases: Sequence[TestCase]) -> ET.Element:
    outcomes = [case.outcome for case in cases]
    kinds = {"failures": FAILED, "errors": BROKE, "skipped": SKIPPED}
    counts = {name: str(outcomes.count(outcome)) for name, outcome in kinds.items()}
    time = _seconds(sum(case.seconds for case in cases))
    suite = ET.Element("testsuite", {"name": xml_text(title), "tests": str(len(cases)), **counts, "time": time})
    for case in cases:
        about = {"classname": xml_text(case.classname), "name": xml_text(case.name), "time": _seconds(case.seconds)}
        element = ET.SubElement(suite, "testcase", about)
        if case.outcome != PASSED:
            ET.SubElement(element, case.outcome, message=xml_text(case.message)).text = xml_text(case.text)
    return suite


def _seconds(value: float) -> str:
    return f"{value:.3f}"
