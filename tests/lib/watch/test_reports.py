"""The metrics and the page of a watch."""

import re
from datetime import timedelta

from lib.watch import reports
from lib.watch.proofs import Proofs
from tests.lib.watch.test_proofs import GOOD, HOUR, NOON, result

# A line of the text format: a name, labels, a value
SAMPLE = re.compile(r'^[a-z_]+(\{[a-z]+="[^"\\\n]*"\})? [0-9]+$')


def test_the_metrics_have_each_control_with_its_last_proof():
    kept = Proofs().after([result("A01", "200 app", "fail"), *GOOD[1:]], NOON)
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
    assert "0 of " in text and "stale" in text and "240" in text
