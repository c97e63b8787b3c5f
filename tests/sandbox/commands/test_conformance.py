"""The conformance suite: what is asked of it, and the tables of its report, which docs/conformance.md shows."""

import re
from pathlib import Path

import pytest
import yaml

from lib.errors import MissingStep
from sandbox.commands.conformance import FIRST, LINES, REPORT, not_passed, options, require_class
from sandbox.commands.conformance_report import EXPERIMENTAL, FEATURES, MESH, results, tables, unexplained

DOCS = Path(__file__).resolve().parents[3] / "docs"


def status(passed=0, **rest):
    failed, skipped = rest.get("failedTests", []), rest.get("skippedTests", [])
    return {"statistics": {"Passed": passed, "Failed": len(failed), "Skipped": len(skipped)}, **rest}


def report(*profiles):
    return {"profiles": [dict(zip(("name", "core", "extended"), profile, strict=False)) for profile in profiles]}


def test_the_tables_count_each_level_and_give_each_gap_its_reason():
    known, unknown = EXPERIMENTAL[0], "TestOfTomorrow"
    whole = report(
        ("GATEWAY-TLS", status(3)),
        ("GATEWAY-HTTP", status(7, failedTests=[unknown]), status(5, unsupportedFeatures=[known])),
    )
    assert tables(whole).splitlines() == [
        "| profile | level | passed | failed | skipped |",
        "|---|---|---|---|---|",
        "| GATEWAY-HTTP | core | 7 | 1 | 0 |",
        "| GATEWAY-HTTP | extended | 5 | 0 | 0 |",
        "| GATEWAY-TLS | core | 3 | 0 | 0 |",
        "| GATEWAY-TLS | extended | 0 | 0 | 0 |",
        "",
        "| not passed | what | reason |",
        "|---|---|---|",
        f"| `{known}` | feature not tested | {FEATURES[known]} |",
        f"| `{unknown}` | test failed | unknown |",
    ]
    assert unexplained(whole) == [unknown]


def test_a_skipped_test_needs_a_reason_too():
    assert unexplained(report(("GATEWAY-GRPC", status(skippedTests=["Left out"])))) == ["Left out"]


def test_the_page_has_the_tables_of_the_kept_report():
    kept = yaml.safe_load((DOCS / "conformance.yaml").read_text())
    page = (DOCS / "conformance.md").read_text()
    assert tables(kept) in page and unexplained(kept) == []
    assert f"Gateway API {kept['gatewayAPIVersion']} against Istio {kept['implementation']['version']}" in page


LOG = """=== RUN   TestConformance/Parallel
--- FAIL: TestConformance (9.00s)
    --- SKIP: TestConformance/MeshBasic (0.00s)
    --- PASS: TestConformance/HTTPRouteMatching (0.16s)
        --- PASS: TestConformance/HTTPRouteMatching/5_request_to_'/v2/' (0.01s)
    --- FAIL: TestConformance/Parallel (60.16s)
        --- FAIL: TestConformance/Parallel/observedGeneration_should_increment (60.05s)
"""


def test_the_command_tells_the_tests_of_the_suite_or_the_one_test_but_no_subtest():
    told = [
        [line for line in LOG.splitlines() if re.match(LINES.format(name), line)]
        for name in ("[^/ ]+", "Parallel|Other")
    ]
    lines = LOG.splitlines()
    assert told == [[lines[0], lines[2], lines[3], lines[5]], [lines[0], lines[5]]]


def test_the_log_has_the_failed_parallel_tests_that_the_report_counts_as_passed():
    found = results(LOG)
    assert found == {"PASS": ["HTTPRouteMatching"], "FAIL": ["Parallel"], "SKIP": ["MeshBasic"]}
    passed = report(("GATEWAY-HTTP", status(2)))
    assert unexplained(passed) == [] and unexplained(passed, found["FAIL"]) == ["Parallel"]
    row = "| `Parallel` | test failed, after the report counted it as passed | unknown |"
    assert tables(passed, found["FAIL"]).splitlines()[-1] == row


def test_a_failed_test_of_report_and_log_is_one_row():
    failed = report(("GATEWAY-TLS", status(failedTests=["Serial"])))
    assert tables(failed, ["Serial"]).splitlines()[-1] == "| `Serial` | test failed | unknown |"


def test_the_suite_tests_all_features_but_those_with_a_reason_and_those_of_meshes():
    words = options()
    exempt = next(word for word in words if word.startswith("-exempt-features=")).partition("=")[2].split(",")
    assert "-all-features" in words and "-gateway-class=istio" in words and set(exempt) == {*FEATURES, *MESH}
    assert f"-report-output={REPORT}" in words and not [word for word in words if "test.run" in word]


def test_a_run_of_some_tests_names_them_and_writes_no_report():
    words = options("HTTPRouteMatching|GatewayModifyListeners")
    assert "-test.run=^TestConformance$/^(HTTPRouteMatching|GatewayModifyListeners)$" in words
    assert not [word for word in words if "report" in word]


@pytest.mark.parametrize(
    ("tests", "missing"),
    [
        ("HTTPRouteMatching", []),
        ("HTTPRouteMatching|Parallel", ["Parallel"]),  # failed
        ("HTTPRouteMatching|MeshBasic", ["MeshBasic"]),  # skipped
        ("HTTPRouteMatching|Misspelt", ["Misspelt"]),  # did not run
    ],
)
def test_each_named_test_has_to_pass(tests, missing):
    assert not_passed(tests, results(LOG)) == missing


class Cluster:
    def __init__(self, *names):
        self.names = names

    def find(self, api_version, kind, name):
        asked = (api_version, kind) == ("gateway.networking.k8s.io/v1", "GatewayClass")
        return {"metadata": {"name": name}} if asked and name in self.names else None


def test_a_cluster_without_istiods_gateway_class_is_told_the_setting_and_the_steps():
    require_class(Cluster("istio"))
    with pytest.raises(MissingStep, match="no GatewayClass istio") as error:
        require_class(Cluster("other"))
    assert str(error.value).endswith(FIRST) and "gateway_api: gateway-api" in FIRST and "ONLY=02" in FIRST
