"""Results in the JUnit XML that CI systems read: suites of cases, passed, failed, broken or skipped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lib.record import verdicts

PASSED, FAILED, BROKE, SKIPPED = "passed", "failure", "error", "skipped"
OUTCOMES = {verdicts.PASS: PASSED, verdicts.FAIL: FAILED, verdicts.ERROR: BROKE}
NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One case: `verdict` is PASSED, FAILED, BROKE or SKIPPED; `message` says why, `text` what came."""

    classname: str
    name: str
    seconds: float
    verdict: str = PASSED
    message: str = ""
    text: str = ""


def outcome(verdict: str) -> str:
    """Return JUnit's word for a verdict; what neither passed nor is red counts as skipped there."""
    return OUTCOMES.get(verdict, SKIPPED)


def document(suites: Mapping[str, Sequence[Case]], name: str) -> str:
    """Return the suites as JUnit XML, times in seconds."""
    root = ET.Element("testsuites", name=name)
    for title, cases in suites.items():
        root.append(_suite(title, cases))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def xml_text(text: str) -> str:
    """Return the text without the characters that XML 1.0 has no way to write."""
    return NOT_XML.sub("?", text)


def _suite(title: str, cases: Sequence[Case]) -> ET.Element:
    count = lambda verdict: str(sum(case.verdict == verdict for case in cases))  # noqa: E731
    about = {"tests": str(len(cases)), "failures": count(FAILED), "errors": count(BROKE), "skipped": count(SKIPPED)}
    suite = ET.Element("testsuite", name=title, **about, time=_seconds(sum(case.seconds for case in cases)))
    for case in cases:
        words = {"classname": xml_text(case.classname), "name": xml_text(case.name), "time": _seconds(case.seconds)}
        one = ET.SubElement(suite, "testcase", **words)
        if case.verdict != PASSED:
            ET.SubElement(one, case.verdict, message=xml_text(case.message)).text = xml_text(case.text)
    return suite


def _seconds(value: float) -> str:
    return f"{value:.3f}"
