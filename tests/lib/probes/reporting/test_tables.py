"""Results as tables and pictures: what is in them, and that they can be read by who needs to."""

import io
import xml.etree.ElementTree as ET

from rich.console import Console

from lib.probes.model import Probe
from lib.probes.reporting import drawing, tables
from lib.probes.reporting import heat_map as reporting_heat_map
from lib.probes.reporting.results import Result

SVG = "{http://www.w3.org/2000/svg}"


def result(id="A01", profile="figure-2", got="403 R", verdict="pass", **more):
    about = {"title": f"title of {id}", "caller": "user", "request": "GET /headers", "token": "", "expected": "403 R"}
    return Result(id=id, family=id[0], profile=profile, got=got, verdict=verdict, **{**about, **more})


FINDING = {"finding": "an ID token passes", "closed_by": "a rule on typ", "expected": "200 app"}
RESULTS = [
    result("A01", hop="sidecar"),
    result("A01", "figure-1", hop="sidecar"),
    result("A01", "hardened", hop="gateway"),
    result("A02", token="good", got="200 app", expected="200 app", hop="application"),
    result("A02", "hardened", token="good", got="200 app", expected="200 app"),
    result("A03", caller="sleep", got="403 R"),
    result("A03", "figure-1", caller="sleep", got="200 app", expected="200 app"),
    result("A04", caller="outsider", got="0 reset", expected="0 reset"),
    result("B12a", got="200 app", verdict="fail", note="expected 403 R, got 200 app"),
    result("B12b", got="401 J1", verdict="unmeasured", note="no baseline"),
    result("D02", token="expired", got="401 J15", expected="401 J15"),
    result("D25", got="200 app", **FINDING),
    result("D25", "hardened", got="403 R"),
    result("E15", "deny-all", got="403 R"),
    result("F01", got="", verdict="skipped", note="no [such] workload\x00"),
]


def test_side_by_side_has_a_row_a_probe_and_columns_for_each_profile():
    table = tables.side_by_side(RESULTS)
    assert list(table.index) == ["A01", "A02", "A03", "A04", "B12a", "B12b", "D02", "D25", "E15", "F01"]
    assert table.loc["A03", "figure-2 got"] == "403 R" and table.loc["A03", "figure-1 got"] == "200 app"
    assert table.loc["B12a", "figure-2 got"] == "200 app ✗" and table.loc["B12b", "figure-2 got"] == "401 J1 ?"
    assert table.loc["E15", "own policy got"] == "403 R" and table.loc["E15", "where"] == "deny-all"
    assert table.loc["A02", "figure-1 got"] == "" and table.loc["F01", "figure-2 got"] == "–"


def test_what_hardening_closes_row_by_row():
    table = tables.closed(RESULTS)
    assert table.to_dict("index") == {
        "D25": {
            "title": "title of D25",
            "caller": "user",
            "figure-2": "200 app",
            "hardened": "403 R",
            "by": "a rule on typ",
        }
    }


def test_findings_in_plain_words():
    (row,) = tables.findings(RESULTS, "hardened").to_dict("records")
    assert (row["finding"], row["closed by"], row["hardened"]) == ("an ID token passes", "a rule on typ", "403 R")


def probe(id, **more):
    return Probe(id=id, title="t", source="s", expect="403 R", **more)


def test_the_matrix_counts_plain_requests_alone():
    probes = [
        probe("A01"),
        probe("A02", token="good"),
        probe("A03", caller="sleep"),
        probe("A04", caller="outsider"),
        probe("B12a", headers=["X: y"]),
        probe("D02", token="expired"),
    ]
    table = tables.matrix(RESULTS, probes, "figure-2")
    assert table.loc["user"].to_dict() == {"nothing": "403 R", "good token": "200 app", "bad token": "401 J15"}
    assert table.loc["outsider", "nothing"] == "0 reset" and table.loc["sleep", "good token"] == ""


def test_counts_and_summary():
    assert tables.counts(RESULTS).loc["figure-2"].to_dict() == {"pass": 6, "fail": 1, "skipped": 1, "unmeasured": 1}
    assert tables.summary(RESULTS) == "15 probes: 12 as expected, 1 red, 1 without a baseline, 1 skipped."
    assert [one.id for one in tables.red(RESULTS)] == ["B12a"]


def test_a_refusal_before_the_headers_were_read_counts_as_the_gateways():
    rows = [result("F29a", got="400 codec"), result("F33", got="7 R, 16 J15", hop="sidecar")]
    (way,) = drawing.panel("figure-2", rows)["ways"]
    assert way["to_gateway"] == "2 asked, 1 ended here"
    assert (way["through"], way["refused"]) == ("0 through", "1 × gRPC 16")


def test_rare_answers_are_told_together():
    rows = [result("A01", got=f"{status} x") for status in (401, 401, 401, 403, 403, 400, 400, 431, 405)]
    assert drawing.refused(rows) == "3 × 401, 2 × 403, 2 × 400, 2 others"
    assert drawing.refused(rows[:-1]) == "3 × 401, 2 × 403, 2 × 400, 1 × 431"


def test_nothing_at_all_makes_empty_tables():
    for table in (tables.side_by_side([]), tables.closed([]), tables.findings([]), tables.counts([])):
        assert table.empty
    assert tables.matrix([], [], "figure-2").empty


def test_junit_can_be_read_and_counts_right():
    root = ET.fromstring(tables.junit(RESULTS))
    suites = {suite.get("name"): suite for suite in root}
    assert set(suites) == {"figure-2", "figure-1", "hardened", "deny-all"}
    one = suites["figure-2"]
    assert (one.get("tests"), one.get("failures"), one.get("skipped")) == ("9", "1", "2")
    (red,) = one.iter("failure")
    assert red.get("message") == "expected 403 R, got 200 app"
    assert [case.get("name") for case in one if case.find("failure") is not None] == ["B12a title of B12a"]


def test_the_terminals_table_takes_no_text_for_markup():
    console = Console(file=io.StringIO(), width=200)
    console.print(tables.table(RESULTS))
    assert "no [such] workload" in console.file.getvalue()


def heat_map(rows=RESULTS):
    root = ET.fromstring(reporting_heat_map.heat_map(rows))
    return root, [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}title") is not None]


def test_the_heat_map_is_drawn_with_its_words():
    root, cells = heat_map()
    assert root.get("aria-label") == reporting_heat_map.alt(RESULTS)
    assert len(cells) == len(RESULTS)
    assert sum(text.get("class") == "title" for text in root.iter(f"{SVG}text")) == 4  # three profiles, and the worlds
    words = [cell.find(f"{SVG}title").text for cell in cells]
    assert "B12a title of B12a, from user, figure-2: 200 app" in words


def test_every_cell_of_the_heat_map_has_a_sign_and_a_place_of_its_own():
    _, cells = heat_map()
    signs = [cell.find(f"{SVG}text").text for cell in cells][:9]
    assert sorted(signs) == sorted(["−", "+", "−", "−", "✗", "?", "−", "!", "·"])
    rects = [cell.find(f"{SVG}rect") for cell in cells][:9]
    assert len({(rect.get("x"), rect.get("y")) for rect in rects}) == 9


def test_nothing_in_the_heat_map_is_markup():
    _, cells = heat_map([result("A01", title="</svg><script>")])
    assert "</svg><script>" in cells[0].find(f"{SVG}title").text


def test_signs_and_greys_of_the_heat_map_differ():
    signs = [sign for sign, _, _ in reporting_heat_map.KINDS.values()]
    greys = [grey(colour) for _, colour, _ in reporting_heat_map.KINDS.values()]
    assert len(set(signs)) == len(signs)
    assert all(abs(one - other) > 4 for place, one in enumerate(greys) for other in greys[:place])


def grey(colour):
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_the_heat_map_in_words():
    said = reporting_heat_map.alt(RESULTS)
    assert "figure-2: 1 through, 4 refused, 1 finding, 1 unmeasured, 1 skipped, 1 red" in said
    assert said.endswith("Red are B12a.")


def test_the_drawing_has_each_profile_with_its_addresses_and_counts():
    root = ET.fromstring(drawing.drawing(RESULTS, {"issuer": "http://k:8080/realms/istio", "figure-1": "10.0.0.9:80"}))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert [text for text in texts if text in drawing.TITLES.values()] == list(drawing.TITLES.values())
    assert "http://k:8080/realms/istio" in texts and "10.0.0.9:80" in texts
    assert "3 asked, 1 ended here" in texts and "httpbin-hardened" in texts


def test_an_arrow_is_solid_where_something_was_let_through():
    asked = [one for one in RESULTS if one.got and one.profile in drawing.TITLES]
    profiles = {one.profile: [other for other in asked if other.profile == one.profile] for one in asked}
    ways = {name: {way["who"]: way for way in drawing.panel(name, rows)["ways"]} for name, rows in profiles.items()}
    told = {(name, who): (one["through"], one["refused"]) for name, each in ways.items() for who, one in each.items()}
    assert told["figure-2", "sleep"] == ("0 through", "1 × 403") and not ways["figure-2"]["sleep"]["open"]
    assert told["figure-1", "sleep"] == ("1 through", "") and ways["figure-1"]["sleep"]["open"]
    assert told["figure-2", "outsider"] == ("0 through", "1 × no HTTP")
    root = ET.fromstring(drawing.drawing(RESULTS, {}))
    drawn = [path.get("class") for path in root.iter(f"{SVG}path") if path.get("class")]
    shut = [way for each in ways.values() for way in each.values() if not way["open"]]
    assert drawn.count("refused") == len(shut) > 0 and "through" in drawn


def test_the_drawing_in_words_and_none_of_nothing():
    assert drawing.drawing([], {}) == ""
    said = ET.fromstring(drawing.drawing(RESULTS, {})).get("aria-label")
    assert "sleep, with a sidecar: 0 through, 1 × 403" in said and "user, outside the mesh: 3 asked, 1 ended at" in said


def test_what_is_planned_is_drawn_with_the_answers_that_are_expected():
    root = ET.fromstring(drawing.show_planned(["figure-2", "figure-1"]).data)
    said = root.get("aria-label")
    assert "Figure 1: users by token, sleep by mutual TLS" in said and "hardened" not in said
    assert "outsider, without a sidecar: 0 through, 3 × no HTTP" in said
    assert any("the answers that are expected" in text.text for text in root.iter(f"{SVG}text"))


def test_every_kind_has_its_place_in_the_legend():
    root = ET.fromstring(reporting_heat_map.heat_map(RESULTS))
    width, height = map(float, root.get("viewBox").split()[2:])
    places = {}
    for group in root.iter(f"{SVG}g"):
        texts = [text.text for text in group.iter(f"{SVG}text")]
        if texts and texts[-1] in [meaning for _, _, meaning in reporting_heat_map.KINDS.values()]:
            x, y = map(float, group.get("transform")[len("translate(") : -1].split())
            places[texts[-1]] = x, y
    assert len(set(places.values())) == len(reporting_heat_map.KINDS)
    assert all(x + 215 <= width and y + 12 <= height for x, y in places.values())


def test_one_probe_in_full_has_a_column_for_each_profile_and_no_empty_field():
    table = tables.one(RESULTS, "D25")
    assert list(table.columns) == ["figure-2", "hardened"]
    assert (table.loc["got", "figure-2"], table.loc["got", "hardened"]) == ("200 app", "403 R")
    assert table.loc["finding", "hardened"] == "" and "details" not in table.index


def test_results_are_chosen_by_profile():
    assert [one.id for one in tables.of_profile(RESULTS, "hardened")] == ["A01", "A02", "D25"]


def test_scenarios_before_and_after():
    probe = Probe(id="E01", title="rotation", source="a source", expect=["401 J17", "200 app"])
    assert tables.expected([probe], "rotation").values.tolist() == [["E01", "rotation", "401 J17, 200 app"]]
    table = tables.with_notes([result("E01", note="until it passed: 9.0 s")])
    assert table.loc[0, "note"] == "until it passed: 9.0 s"
