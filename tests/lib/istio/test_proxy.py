"""What a proxy refuses, by istiod's log."""

import pytest

from lib.istio.proxy import refusal

PUSH = "2026-12-01T04:00:00.1Z\tinfo\tdelta\tLDS: PUSH for node:web-1.shop resources:38 removed:0 size:96.1kB"
ERROR = "2026-12-01T04:00:00.2Z\twarn\tdelta\tADS:LDS: ACK ERROR web-1.shop-7 Internal:Error in listener(s): no keys"
OTHERS = PUSH.replace("web-1", "web-12"), PUSH.replace("LDS", "CDS")  # of another pod, of another kind


@pytest.mark.parametrize(
    ("log", "why"),
    [
        ([PUSH], ""),
        ([PUSH, ERROR], "Internal:Error in listener(s): no keys"),
        ([PUSH, ERROR, PUSH], ""),  # it took what came next
        ([PUSH, ERROR, PUSH, ERROR.replace("no keys", "no name")], "Internal:Error in listener(s): no name"),
        ([PUSH, ERROR, *OTHERS], "Internal:Error in listener(s): no keys"),
        ([ERROR.replace("web-1", "web-12")], ""),
    ],
)
def test_a_proxy_refuses_what_it_was_sent_last_or_nothing(log, why):
    assert refusal(log, "web-1", "shop") == why
