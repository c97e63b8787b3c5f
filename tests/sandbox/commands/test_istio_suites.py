"""Istio's security suites: what is asked of them, and the tables of their results, which docs/conformance.md shows."""

import re
from pathlib import Path

import pytest
import yaml

from lib.errors import MissingStep
from sandbox.build.istio_suites import PLACE
from sandbox.commands import istio_suites
from sandbox.commands.istio_report import results, tables, unexplained

DOCS = Path(__file__).resolve().parents[3] / "docs"

# Recorded lines of a suite's output, each with few of its neighbours
LOG = """=== RUN   TestAuthz_MultipleCustomProviders_DryRunMixed
2026-11-29T22:44:21.782432Z	info	tf	=== BEGIN: Test: 'security[TestAuthz_MultipleCustomProviders_DryRunMixed]' ===
    authz_multiple_providers_test.go:704: Dry-run mixed mode test requires additional policy template setup
2026-11-29T22:44:21.782575Z	info	tf	=== DONE (skipped):  Test: 'security[TestAuthz_...DryRunMixed] (140.392µs)' ===
--- SKIP: TestAuthz_MultipleCustomProviders_DryRunMixed (0.00s)
=== RUN   TestAuthz_NotHost
=== RUN   TestAuthz_NotHost/to_b
=== RUN   TestAuthz_NotHost/to_b/allow.b.com(allow)/http
    authz_test.go:613: call failed from TestRunner to http://10.242.0.101:80 (using http): connection refused
=== RUN   TestAuthz_NotHost/to_b/deny.b.com(deny)/http
=== RUN   TestAuthz_NotHost/to_headless
    run.go:57: Running tests with: sources [a.echo1] -> destinations [headless.echo1]
=== RUN   TestAuthz_NotHost/to_headless/deny.headless.com(deny)/http
--- FAIL: TestAuthz_NotHost (42.27s)
    --- FAIL: TestAuthz_NotHost/to_b (41.09s)
        --- FAIL: TestAuthz_NotHost/to_b/allow.b.com(allow)/http (30.02s)
        --- PASS: TestAuthz_NotHost/to_b/deny.b.com(deny)/http (11.06s)
    --- PASS: TestAuthz_NotHost/to_headless (0.13s)
        --- PASS: TestAuthz_NotHost/to_headless/deny.headless.com(deny)/http (0.01s)
=== RUN   TestAuthz_NotMethod
--- PASS: TestAuthz_NotMethod (7.00s)
FAIL
"""
DRY_RUN, NOT_HOST = "TestAuthz_MultipleCustomProviders_DryRunMixed", "TestAuthz_NotHost"
PLACES = "authz_multiple_providers_test.go:704", "authz_test.go:613"
TEMPLATE = "Dry-run mixed mode test requires additional policy template setup"


def report(log=LOG):
    return {"suites": {"security": {"seconds": 150, "tests": results(log)}}}


def test_the_results_have_each_test_and_count_the_subtests_without_subtests():
    refused = "call failed from TestRunner to http://10.242.0.101:80 (using http): connection refused"
    skipped = {"outcome": "skipped", "message": f"{PLACES[0]} {TEMPLATE}", "cases": 1}
    failed = {"outcome": "failed", "message": f"{PLACES[1]} {refused}", "cases": 1}
    assert results(LOG) == {
        DRY_RUN: {"outcome": "skipped", "passed": 0, "not_passed": [skipped]},
        NOT_HOST: {"outcome": "failed", "passed": 2, "not_passed": [failed]},
        "TestAuthz_NotMethod": {"outcome": "passed", "passed": 1},
    }


def test_the_tables_count_tests_and_cases_and_a_failed_test_without_a_known_reason_is_told():
    assert tables(report()).splitlines() == [
        "| suite | tests passed | failed | skipped | cases passed | failed | skipped | minutes |",
        "|---|---|---|---|---|---|---|---|",
        "| `security` | 1 | 1 | 1 | 3 | 1 | 1 | 2 |",
        "",
        "| suite | test | outcome | cases | reason |",
        "|---|---|---|---|---|",
        f"| `security` | `{DRY_RUN}` | skipped | 1 | {TEMPLATE} |",
        f"| `security` | `{NOT_HOST}` | failed | 1 | unknown |",
    ]
    assert unexplained(report()) == [NOT_HOST]


def test_a_person_may_add_the_reason_to_a_kept_report():
    kept = report()
    kept["suites"]["security"]["tests"][NOT_HOST]["not_passed"][0]["reason"] = "a busy machine"
    assert unexplained(kept) == [] and tables(kept).endswith(f"| `{NOT_HOST}` | failed | 1 | a busy machine |")


def test_a_suite_that_runs_no_test_is_told():
    assert unexplained(report("FAIL\n")) == ["security"]


def test_a_test_without_an_end_has_failed():
    log = "=== RUN   TestNormalization\n=== RUN   TestNormalization/BASE\npanic: test timed out after 1h30m0s\n"
    assert results(log)["TestNormalization"]["outcome"] == "failed"
    assert unexplained(report(log)) == ["TestNormalization"]


def test_the_command_tells_the_tests_but_no_subtest():
    told = [line for line in LOG.splitlines() if re.match(istio_suites.LINES, line)]
    assert told[0].endswith(f" {DRY_RUN}") and len(told) == 6 and not [line for line in told if "to_b" in line]


def part(folder):
    for name in ("", "remote_jwks", "sds_ingress/quic", "testdata"):
        (folder / "tree" / PLACE / name).mkdir(parents=True, exist_ok=True)
    (folder / "suites").mkdir()
    for name in ("security", "remote_jwks", "quic"):
        (folder / "suites" / f"{name}.test").write_text("")
    return folder


def test_each_suite_starts_in_its_folder_of_the_module(tmp_path):
    suites = istio_suites.choose(part(tmp_path), "istio")
    root = tmp_path / "tree" / PLACE
    assert suites == {"quic": root / "sds_ingress/quic", "remote_jwks": root / "remote_jwks", "security": root}
    assert list(istio_suites.choose(tmp_path, "quic")) == ["quic"]
    with pytest.raises(MissingStep, match="SUITE is istio, or one of quic, remote_jwks, security"):
        istio_suites.choose(tmp_path, "jwks")


def test_the_suites_install_istio_with_the_sandboxs_images_and_without_the_filters_that_upstream_envoy_lacks():
    words = istio_suites.options(Path("/kubeconfig"), "TestAuthz_JWT")
    settings = next(word for word in words if "helm.values" in word).partition("values=")[2].split(",")
    assert {"telemetry.enabled=false", "pilot.env.PILOT_ENABLE_METADATA_EXCHANGE=false"} <= set(settings)
    dev = yaml.safe_load((DOCS.parent / "params" / "dev.yml").read_text())
    assert f"-istio.test.hub={dev['istio_hub']}" in words and f"-istio.test.tag={dev['istio_tag']}" in words
    assert {"-test.run=TestAuthz_JWT", "-istio.test.skipVM=true", "-istio.test.kube.config=/kubeconfig"} <= set(words)
    assert not [word for word in istio_suites.options(Path("/kubeconfig")) if word.startswith("-test.run")]


class Cluster:
    def __init__(self, *deployments):
        self.deployments = deployments

    def find(self, api_version, kind, name, namespace):
        return {"kind": kind} if (api_version, kind, namespace, name) in self.deployments else None


def test_a_cluster_with_an_istio_of_its_own_is_left_alone():
    istio_suites.require_no_istio(Cluster())
    with pytest.raises(MissingStep, match="make down, then make run ENV=dev ONLY=01"):
        istio_suites.require_no_istio(Cluster(("apps/v1", "Deployment", "istio-system", "istiod")))


def suite(seconds, **tests):
    return {"seconds": seconds, "tests": {name: {"outcome": outcome, "passed": 1} for name, outcome in tests.items()}}


def test_the_report_keeps_the_other_suites_and_tests_of_the_same_versions_alone(tmp_path):
    file = tmp_path / "new" / "report.yaml"

    def kept(whole, **suites):
        istio_suites.keep({"suites": suites}, file, whole)
        return yaml.safe_load(file.read_text())["suites"]

    first, again = suite(60, TestA="passed", TestB="failed"), suite(5, TestB="passed")
    assert kept(True, quic=suite(1, TestC="passed"), crl=first) == {"quic": suite(1, TestC="passed"), "crl": first}
    assert kept(False, crl=again)["crl"] == suite(60, TestA="passed", TestB="passed")
    assert kept(True, crl=again)["crl"] == again
    file.write_text(file.read_text().replace("istio: ", "istio: older-"))
    assert kept(True, crl=first) == {"crl": first}


def test_the_page_has_the_tables_of_the_kept_report():
    kept, page = yaml.safe_load((DOCS / "istio-security.yaml").read_text()), (DOCS / "conformance.md").read_text()
    assert tables(kept) in page and unexplained(kept) == []
    assert f"Istio {kept['versions']['istio']} with upstream Envoy {kept['versions']['envoy']}" in page
