"""How long answers took: the numbers are those of the sample, and the picture keeps their order."""

import xml.etree.ElementTree as ET

import pytest

from lib.bundle import latency

SVG = "{http://www.w3.org/2000/svg}"


def answers(figure, *times):
    return [{"figure": figure, "latency_ms": str(time)} for time in times]


def test_quantiles_of_a_figure():
    found = latency.distributions(answers("figure-1", *range(1, 22)))
    assert found == {"figure-1": {"answers": 21, "p25": 6.0, "p50": 11.0, "p75": 16.0, "p90": 19.0, "max": 21.0}}


def test_what_was_never_answered_or_too_seldom_is_left_out():
    rows = [*answers("few", *range(1, 10)), *answers("none", *[0.0] * 20), *answers("blank", *[""] * 20)]
    assert latency.distributions(rows) == {} and latency.picture({}) == ""


def test_picture_is_in_order_and_within_its_frame():
    found = latency.distributions([*answers("a", *range(1, 41)), *answers("b", *range(1000, 90_000, 1000))])
    root = ET.fromstring(latency.picture(found))
    width = float(root.get("viewBox").split()[2])
    for group in root.iter(f"{SVG}g"):
        box, dot = group.find(f"{SVG}rect"), float(group.find(f"{SVG}circle").get("cx"))
        left = float(box.get("x"))
        assert latency.LEFT <= left < left + float(box.get("width")) <= dot <= width
    labels = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "middle"]
    assert labels == ["1 ms", "3 ms", "10 ms", "30 ms", "100 ms", "300 ms", "1 s", "3 s", "10 s", "30 s", "100 s"]


@pytest.mark.parametrize("longest", [0.4, 1.0, 99.0, 250_000.0])
def test_picture_of_any_range(longest):
    root = ET.fromstring(latency.picture(latency.distributions(answers("a", *[longest] * 10))))
    (dot,) = root.iter(f"{SVG}circle")
    assert latency.LEFT <= float(dot.get("cx")) <= latency.LEFT + latency.WIDTH


def test_picture_in_words():
    text = latency.alt(latency.distributions(answers("figure-1", *range(1, 22))))
    assert text == "Latencies in milliseconds. figure-1: half within 11.0, nine of ten within 19.0."
