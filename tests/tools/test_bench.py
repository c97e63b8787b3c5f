"""The bench reads the API server's own counters, and prints medians."""

from tools import bench

METRICS = """
# HELP apiserver_request_total Counter of apiserver requests
apiserver_request_total{code="200",resource="pods",subresource="",verb="LIST"} 12
apiserver_request_total{code="101",resource="pods",subresource="exec",verb="CONNECT"} 30
apiserver_request_total{code="200",resource="services",subresource="",verb="WATCH"} 1e+03
apiserver_request_duration_seconds_count{resource="pods",verb="LIST"} 99
"""


def test_requests_are_counted_without_watches():
    assert bench.counted(METRICS) == (42, 30)
    assert bench.counted("") == (0, 0)


def test_a_phase_is_measured_and_a_table_has_medians():
    figures = bench.measure(lambda: sum(range(10**6)))
    assert figures["wall s"] >= 0 and figures["CPU s"] >= 0
    rounds = [{"wall s": seconds, "API requests": 10} for seconds in (3.0, 1.0, 100.0)]
    assert bench.table({"again": rounds}).splitlines()[2] == "| again | 3 | 10 |"
