"""The metrics and the page of a watch."""

import re
from datetime import timedelta

import pytest

from lib.watch import reports
from lib.watch.proofs import KEPT, Proof, Proofs
from tests.lib.watch.test_proofs import GOOD, HOUR, NOON, UNKNOWN, result

HOLED = [result("A01", "200 app", "fail"), *GOOD[1:]]
# A line of the text format: a name, labels, a value
SAMPLE = re.compile(r'^[a-z_]+(\{[a-z]+="[^"\\\n]*"\})? [0-9]+$')


def test_the_metrics_have_each_control_with_its_last_proof():
    kept = Proofs().after(HOLED, NOON)
    lines = reports.metrics(kept, 3 * HOUR).splitlines()
    assert f'istio_keycloak_proof_timestamp_seconds{{control="IA-8"}} {NOON.timestamp():.0f}' in lines
    assert 'istio_keycloak_proof_timestamp_seconds{control="IA-2"} 0' in lines, "an alert on the age must see it"
    assert 'istio_keycloak_proof_red_probes{control="IA-2"} 1' in lines
    assert 'istio_keycloak_proof_run_verdict{verdict="fail"} 1' in lines
    assert "istio_keycloak_proof_stale_after_seconds 10800" in lines
    samples = [line for line in lines if not line.startswith("#")]
    assert all(SAMPLE.match(line) for line in samples) and len(samples) == len(set(samples))
    named = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert named == {re.split(r"[{ ]", line)[0] for line in samples}


def test_the_page_escapes_what_a_mesh_answered():
    kept = Proofs().after(GOOD, NOON).after_error("<script>alert(1)</script>", NOON + HOUR)
    text = reports.page(kept, "dev", NOON + 4 * HOUR, timedelta(hours=3))
    assert "&lt;script&gt;" in text and "<script>alert" not in text
    assert "0 of 3 controls are proved" in text and "240" in text


def cells(text):
    """Each control's state as the page shows it: the class and the words of its cell."""
    cell = r'<th scope="row">([A-Z]+-\d+)</th><td>.*?</td>\s*<td class="(\w+) verdict-cell">(.*?)</td>'
    return re.findall(cell, text)


@pytest.mark.parametrize(
    ("kept", "later", "expected"),
    [
        (Proofs().after(GOOD, NOON), 1, [("IA-2", "pass", "✓ proved"), ("IA-8", "pass", "✓ proved")]),
        (Proofs().after(GOOD, NOON), 4, [("IA-2", "fail", "✗ stale"), ("IA-8", "fail", "✗ stale")]),
        (Proofs().after(HOLED, NOON), 1, [("IA-2", "fail", "✗ red"), ("IA-8", "pass", "✓ proved")]),
        (Proofs(controls={"ia-2": Proof()}), 1, [("IA-2", "fail", "✗ never proved")]),
    ],
    ids=["proved", "stale", "red", "never proved"],
)
def test_the_page_shows_the_state_of_each_control(kept, later, expected):
    found = cells(reports.page(kept, "dev", NOON + later * HOUR, timedelta(hours=3)))
    assert [one for one in found if one[0] in ("IA-2", "IA-8")] == expected


def test_the_page_has_each_run_that_is_kept_newest_first():
    kept = Proofs()
    for number in range(KEPT + 1):
        kept = kept.after(GOOD, NOON + timedelta(minutes=number))
    kept = kept.after_error("the gateway is away", NOON + HOUR)
    text = reports.page(kept, "dev", NOON + HOUR, timedelta(hours=3)).partition("The last runs")[2]
    runs = re.findall(r'<th scope="row" class="verdict-cell">2026-01-02 (\d\d:\d\d) UTC</th><td class="(\w+)">', text)
    assert runs == [("13:00", "error"), *((f"12:{number:02}", "pass") for number in range(KEPT, 1, -1))][:KEPT]
    assert len(runs) == KEPT == 30 and "the gateway is away" in text


def test_the_page_says_how_much_of_a_control_these_probes_are():
    text = reports.page(Proofs().after([*GOOD, UNKNOWN], NOON), "dev", NOON, timedelta(hours=3))
    assert "<td>1 of 8</td>" in text and "<td>1 of 5</td>" in text
    counts = [2, 0, 1, 1]  # passed, red, skipped, unmeasured
    assert "".join(f'<td class="number">{number}</td>' for number in counts) in text
