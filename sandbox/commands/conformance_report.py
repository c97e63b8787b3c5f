"""The tables of docs/conformance.md, from the report of the Gateway API's conformance suite."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# Features of the experimental channel (pkg/features of the suite's release). Istio's own runs of the suite test them,
# but the standard channel's definitions lack their fields.
EXPERIMENTAL = (
    "HTTPRouteRetry",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteRetryConnectionError",
)
# Features of meshes, which have a profile of their own
MESH = (
    "Mesh",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
)
_CHANNEL = "The experimental channel alone has its fields; the sandbox installs the standard channel"
_ISTIO = "Istio's own runs leave it out: skippedExtendedFeatures in pilot/pkg/config/kube/gateway/supported_features.go"
# Why a feature is not tested
FEATURES = {
    **dict.fromkeys(EXPERIMENTAL, _CHANNEL),
    "GatewayBackendClientCertificate": _ISTIO,
    "GatewayHTTPSListenerDetectMisdirectedRequests": _ISTIO,
    "UDPRoute": _ISTIO,
}
_COUNTS = ("Passed", "Failed", "Skipped")
_KINDS = {"failedTests": "test failed", "skippedTests": "test skipped", "unsupportedFeatures": "feature not tested"}
_PARALLEL = "test failed, after the report counted it as passed"


def results(log: str) -> dict[str, list[str]]:
    """Return the names of the tests that passed, failed and were skipped, from the suite's log.

    The suite's own report counts a parallel test as passed before the test has run (`Run` in utils/suite/suite.go of
    the suite's module), so only the log says whether such a test failed.
    """
    found = re.findall(r"^    --- (PASS|FAIL|SKIP): TestConformance/([^/ ]+) ", log, re.M)
    return {word: [name for result, name in found if result == word] for word in ("PASS", "FAIL", "SKIP")}


def tables(report: dict, failed: Iterable[str] = ()) -> str:
    """Return two Markdown tables: the counts of each profile, and what does not pass, with its reason.

    Args:
        report: a ConformanceReport (gateway.networking.k8s.io/v1, kind of the suite's own).
        failed: the tests that the log says failed.
    """
    lines = ["| profile | level | passed | failed | skipped |", "|---|---|---|---|---|"]
    for profile in _profiles(report):
        for level in ("core", "extended"):
            counts = profile.get(level, {}).get("statistics", {})
            figures = " | ".join(str(counts.get(name, 0)) for name in _COUNTS)
            lines.append(f"| {profile['name']} | {level} | {figures} |")
    lines += ["", "| not passed | what | reason |", "|---|---|---|"]
    missing = not_passed(report, failed)
    return "\n".join(
        [*lines, *(f"| `{name}` | {what} | {FEATURES.get(name, 'unknown')} |" for name, what in missing.items())]
    )


def not_passed(report: dict, failed: Iterable[str] = ()) -> dict[str, str]:
    """Return each test and feature that no profile passed, with what happened to it, in alphabetical order."""
    reported = dict(_not_passed(report))
    return dict(sorted((dict.fromkeys(failed, _PARALLEL) | reported).items()))


def unexplained(report: dict, failed: Iterable[str] = ()) -> list[str]:
    """Return what did not pass and has no reason in FEATURES."""
    return [name for name in not_passed(report, failed) if name not in FEATURES]


def _not_passed(report: dict) -> Iterator[tuple[str, str]]:
    for profile in _profiles(report):
        for level in ("core", "extended"):
            for key, kind in _KINDS.items():
                yield from ((name, kind) for name in profile.get(level, {}).get(key) or [])


def _profiles(report: dict) -> list[dict]:
    return sorted(report["profiles"], key=lambda profile: profile["name"])
