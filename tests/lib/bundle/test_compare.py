"""Several runs compared, and one run as a file."""

import hashlib
import re
import shutil
import xml.etree.ElementTree as ET
from zipfile import ZipFile

import pytest

from lib.__main__ import main
from lib.bundle import archive, compare, history_pages, object_diff, seal
from lib.errors import BundleError
from tests.support.sealed_bundle import sealed
from tests.support.tiny import KEY, problems

TRUSTED = [KEY.public_key()]


@pytest.fixture
def two(tmp_path):
    """A green run, and a red run whose second answer differs."""
    return sealed(tmp_path)[0], sealed(tmp_path, "fail")[0]


def test_a_run_does_not_differ_from_itself(two):
    assert compare.compare(two[0], two[0]) == {}


def test_differences_are_listed_by_part(two):
    found = compare.compare(*two)
    assert set(found) == {"verdicts", "answers"}
    assert found["verdicts"].to_dict("records") == [{"what": "01-a", "A": "pass", "B": "fail"}]
    assert found["answers"].to_dict("records") == [{"what": "Figure 1: /ip, sleep, none", "A": "200", "B": "200 ✗"}]


def test_only_sealed_runs_are_compared(two):
    (two[1] / seal.SUMS).unlink()
    with pytest.raises(BundleError, match="sealed"):
        compare.compare(*two)


def test_history_is_oldest_first_and_lists_a_run_that_was_never_sealed(two):
    killed = two[0].with_name("20270131T120000Z-aaaaaaaa")
    killed.mkdir()
    table = compare.runs(two[0].parent)
    assert list(table["run"]) == [*(one.name for one in two), killed.name]
    assert list(table["verdict"]) == ["pass", "fail", "incomplete"]
    assert table.loc[1, "passed"] == 2 and table.loc[1, "commit"] == "a" * 8


def test_the_exit_code_says_whether_runs_differ(two, capsys):
    assert main(["compare", str(two[0]), str(two[0])]) == 0
    assert main(["compare", *map(str, two)]) == 1
    printed = capsys.readouterr().out
    page = two[0].with_name(f"compare-{two[0].name}--{two[1].name}.html")
    assert "Figure 1" in printed and page.name in printed.splitlines()[-1] and page.is_file()
    assert main(["history", "no-such-environment"]) == 2


POLICY = """---
kind: AuthorizationPolicy
metadata: {{name: httpbin, namespace: foo, uid: {uid}, resourceVersion: '{uid}', generation: 1}}
spec:
  rules:
  - from: [{{source: {{principals: [{who}]}}}}]
status: {{seen: '{uid}'}}
---
kind: Deployment
metadata: {{name: httpbin, namespace: foo, creationTimestamp: '{uid}'}}
spec:
  containers: [{containers}]
"""


def keep(folder, **values):
    (folder / "objects").mkdir(exist_ok=True)
    (folder / "objects" / "01-a.yaml").write_text(POLICY.format(**values))


def test_live_objects_differ_by_field_without_volatile_fields(two):
    keep(two[0], uid=1, who="sleep", containers="{name: app, image: a}")
    keep(two[1], uid=2, who="sleep", containers="{name: app, image: a}")
    assert object_diff.differences(*two) == ({}, {})
    keep(two[1], uid=2, who="visitor", containers="{name: proxy, image: p}, {name: app, image: b}")
    table = compare.compare(*two)["live objects"].to_dict("records")
    principal = "spec.rules[0].from[0].source.principals[0]"
    assert table == [
        {"what": f"AuthorizationPolicy foo httpbin: {principal}", "A": "sleep", "B": "visitor"},
        {"what": "Deployment foo httpbin: spec.containers[app].image", "A": "a", "B": "b"},
        {"what": "Deployment foo httpbin: spec.containers[proxy].name", "A": "", "B": "proxy"},
        {"what": "Deployment foo httpbin: spec.containers[proxy].image", "A": "", "B": "p"},
    ]


def test_an_object_of_one_run_alone_is_one_line_and_runs_without_objects_have_none(two):
    keep(two[0], uid=1, who="sleep", containers="")
    assert "live objects" not in compare.compare(*two)
    keep(two[1], uid=1, who="sleep", containers="")
    (two[1] / "objects" / "02-b.yaml").write_text("---\nkind: Service\nmetadata: {name: s}\nspec: {a: 1, b: 2}\n")
    table = compare.compare(*two)["live objects"].to_dict("records")
    assert table == [{"what": "Service s", "A": "", "B": "there"}]


def test_long_values_that_begin_alike_still_differ(two):
    for folder, end in zip(two, "xy", strict=True):
        keep(folder, uid=1, who="a" * 5000 + end, containers="")
    (row,) = compare.compare(*two)["live objects"].to_dict("records")
    assert row["A"] != row["B"] and len(row["A"]) < 200


def with_answers(folder, *rows):
    """Put probes into a bundle's table, as (figure, id, latency, verdict, finding)."""
    columns = ["step", "at", *seal.TABLES["responses.csv"][1].split()]
    names = ("figure", "probe", "latency_ms", "verdict", "finding")
    lines = [{**dict.fromkeys(columns, ""), **dict(zip(names, row, strict=True))} for row in rows]
    text = [",".join(columns), *(",".join(map(str, line.values())) for line in lines)]
    (folder / "responses.csv").write_text("\n".join(text) + "\n")


@pytest.mark.parametrize(
    ("old", "new", "listed"),
    [(4, 10, [4.0, 10.0]), (4, 8.5, None), (10, 19, None), (10, 4, None), (20, 40, [20.0, 40.0]), (0, 40, None)],
)
def test_a_latency_is_listed_if_it_doubled_and_grew_enough(two, old, new, listed):
    for folder, latency in zip(two, (old, new), strict=True):
        noise = [("hardened", "A98", 900, "pass", ""), ("hardened", "A99", "", "skipped", "")]
        with_answers(folder, *[("hardened", f"A{n:02}", latency, "pass", "") for n in range(12)], *noise)
    found = compare.compare(*two).get("latencies")
    assert (None if found is None else found.loc[0, ["A", "B"]].tolist()) == listed


def test_a_median_of_few_answers_is_not_listed(two):
    for folder, latency in zip(two, (4, 400), strict=True):
        with_answers(folder, *[("tcp", f"G2{n}", latency, "pass", "") for n in range(9)])
    assert "latencies" not in compare.compare(*two)


def test_findings_come_and_go(two):
    with_answers(two[0], ("figure-1", "D01", 1, "pass", "it lives on"), ("figure-1", "D02", 1, "pass", "as ever"))
    with_answers(two[1], ("figure-1", "D01", 1, "fail", "it lives on"), ("figure-1", "D02", 1, "pass", "as ever"))
    found = compare.compare(*two)
    assert found["findings"].to_dict("records") == [{"what": "figure-1: D01", "A": "it lives on", "B": ""}]
    assert found["answers"].to_dict("records") == [{"what": "figure-1: D01", "A": "", "B": "✗"}]


def test_records_from_before_verdicts_are_read_by_what_passed(two):
    text = (two[0] / "checks.csv").read_text()
    (two[0] / "checks.csv").write_text(text.replace("verdict,", "").replace(",1,1,pass,", ",1,1,"))
    assert "verdict" not in (two[0] / "checks.csv").read_text()
    assert "checks" not in compare.compare(*two)


def alone(text):
    """Whether a page needs neither network nor script."""
    outside = re.sub(r'xmlns="[^"]*"', "", text).replace("http-equiv", "")
    return "<script" not in text and "http" not in outside and "prefers-color-scheme" in text


def test_the_page_of_a_comparison_has_both_runs_and_every_part(two):
    found = compare.compare(*two)
    found["answers"].loc[0, "B"] = "<b>&"
    path = history_pages.write_comparison(*two, found)
    text = path.read_text()
    assert path == two[0].with_name(f"compare-{two[0].name}--{two[1].name}.html") and alone(text)
    links = re.findall(r'href="(.*?)"', text)
    assert links == [f"{one.name}/index.html" for one in two]
    assert all((path.parent / link).is_file() for link in links)
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Verdicts: 1", "Answers: 1"] and "&lt;b&gt;&amp;" in text
    assert "No difference" in history_pages.write_comparison(two[0], two[0], {}).read_text()


def test_history_is_drawn_with_a_linked_bar_for_each_sealed_run(two):
    two[0].with_name("20270131T120000Z-aaaaaaaa").mkdir()
    path = history_pages.write_history(two[0].parent)
    text = path.read_text()
    assert path.name == "history.html" and alone(text)
    svg = ET.fromstring(re.search(r"<svg.*?</svg>", text, re.S)[0])
    space = "{http://www.w3.org/2000/svg}"
    links = [one.get("href") for one in svg.iter(f"{space}a")]
    assert links == [f"{one.name}/index.html" for one in two] and all((path.parent / one).is_file() for one in links)
    (drawn,) = [one for one in svg if one.get("role") == "img"]
    assert drawn.get("aria-label").startswith("Bar chart of 3 runs, oldest first: 1 passed, 1 failed, 1 never sealed.")
    assert [one.text for one in drawn.iter(f"{space}text") if one.get("class") == "sign"] == ["✓", "✗", "?"]
    parts = [one.get("class") for one in drawn.iter(f"{space}rect") if one.get("class").startswith("part")]
    assert parts == ["part pass", "part fail"]
    names = re.findall(r'<th scope="row">(?:<a .*?>)?(.*?)<', text)
    assert names == ["20270131T120000Z-aaaaaaaa", two[1].name, two[0].name]


def test_the_height_of_a_bar_is_the_duration_of_its_run():
    row = {"run": "20260131T120000Z-a", "verdict": "pass", "seconds": 50.0, "link": "x"}
    row["parts"] = [("01-a", "pass", 50.0, 25.0)]
    svg = ET.fromstring(history_pages.picture([row, {**row, "seconds": 100.0}]))
    found = [(one.get("class"), one.get("height")) for one in svg.iter() if one.get("class") in ("rest", "part pass")]
    heights = [(name, float(height)) for name, height in found]
    assert heights == [("rest", 120.0), ("part pass", 60.0), ("rest", 240.0), ("part pass", 60.0)]


def test_steps_that_ran_at_once_share_their_time():
    begun = {"01-a": ("00", 4.0), "02-b": ("04", 6.0), "03-c": ("06", 2.0)}
    steps = [{"started": f"2026-01-31T12:00:{second}.000Z", "seconds": seconds} for second, seconds in begun.values()]
    assert history_pages.shares(steps) == [4.0, 5.0, 1.0]


def test_an_environment_without_runs_has_a_page_too(tmp_path):
    assert "0 runs." in history_pages.write_history(tmp_path).read_text()


def test_a_bundle_is_the_same_bytes_each_time_and_whole_again_when_unpacked(two, tmp_path):
    folder = two[0]
    first = hashlib.sha256(archive.pack(folder, tmp_path / "a.zip", TRUSTED).read_bytes()).hexdigest()
    moved = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, moved)  # other times, another place
    assert hashlib.sha256(archive.pack(moved, tmp_path / "b.zip", TRUSTED).read_bytes()).hexdigest() == first
    with ZipFile(tmp_path / "a.zip") as packed:
        packed.extractall(tmp_path / "out")
    assert problems(tmp_path / "out" / folder.name) == []


def test_a_bundle_that_was_changed_is_not_packed(two, tmp_path):
    (two[0] / "checks.csv").write_text("")
    with pytest.raises(BundleError, match="checks.csv"):
        archive.pack(two[0], tmp_path / "a.zip", TRUSTED)
    assert not list(tmp_path.glob("*.zip"))


@pytest.mark.parametrize("deep", ["[" * 50_000, "- " * 50_000, "{a: " * 50_000])
def test_objects_nested_without_end_are_refused_and_end_no_process(tmp_path, deep):
    one, _ = sealed(tmp_path, evidence=True)
    other, _ = sealed(tmp_path, evidence=True)
    (one / "objects" / "01-a.yaml").write_text(deep)
    with pytest.raises(BundleError, match=r"The live objects cannot be compared \(ValueError\)"):
        compare.compare(one, other)
