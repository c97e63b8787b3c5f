"""The bundle's pages as a reader has them: in a real browser, light and dark, on a desk, a phone and paper."""

from __future__ import annotations

import base64
import zlib
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from lib.bundle import compare, history_pages, index_page, seal
from lib.record import verdicts
from lib.record.check import Check
from lib.record.events import Record
from tests.support import standing_pages
from tests.support.browser import DESK, PHONE, asked_for, chromium, complaints, scheme, screen, shoot, violations
from tests.support.tiny import KEY

pytestmark = pytest.mark.browser
AT = "2026-01-31T12:00:02.000Z"
VERDICTS = ("pass", "fail", "error", "skipped", "waived")
STEPS = ("01-a", "02-b")


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A sealed bundle with every kind of row, some of it with markup and long words in it."""
    return sealed(tmp_path_factory.mktemp("outputs"), 12)


def sealed(outputs: Path, hour: int) -> Path:
    folder = seal.create("tiny", "a" * 40, datetime(2026, 1, 31, hour, tzinfo=UTC), outputs)
    for step in STEPS:
        record = Record(folder / "events" / f"{step}.jsonl", clock=lambda: AT)
        for number in range(20):
            record.write("check", **Check(f"check {number} <b>", "1", "x" * 90, VERDICTS[number % 5]).row())
        for number in range(60):
            record.write("response", **probe(number))
        for figure, got in (("figure-1", 200), ("figure-2", 403)):
            record.write("response", **answer(figure, got))
        record.write("token", name="valid", fingerprint="0" * 16, alg="RS256", kid="k" * 43, iss="http://k/realms/i")
        record.write("change", kind="Service", namespace="foo", name="httpbin", action="created")
        addresses = {"issuer": "http://10.0.0.1/realms/istio", "figure-1": "10.0.0.2:80"}
        record.write("fact", key="addresses", value=addresses)
        parts = {"user": "browser", "gateway": "x" * 70, "httpbin": "sidecar, STRICT, tokens checked, rules"}
        ways = {
            "no sidecar": {"foo/outsider": "no container istio-proxy"},
            "plain text": {"foo/" + "x" * 70: "PERMISSIVE"},
        }
        standing = {"parts": parts, "may": {"httpbin": {"user": "a token"}}, "bypasses": ways}
        record.write("fact", key="standing", value=standing)
        notebook = nbformat.v4.new_notebook(cells=cells())
        path = folder / "notebooks" / f"{step}.ipynb"
        nbformat.write(notebook, path)
        (folder / "html" / f"{step}.html").write_text(index_page.notebook(path))
    red = dict(verdict="fail", started=AT, seconds=2.0, error="it was red.")
    about = dict(
        user="alice", host="box", env="tiny", command="run", commit="a" * 40, dirty=False, seconds=10.0,
        started="2026-01-31T12:00:00.000Z", finished="2026-01-31T12:00:10.000Z", params={"env": "tiny"},
        versions={"python": "3"}, requirements_lock_sha256="b" * 64,
    )  # fmt: skip
    seal.seal(folder, {**about, "steps": [dict(step=name, title=name, **red) for name in STEPS]}, KEY)
    return folder


def answer(figure, got):
    return dict(
        figure=figure, request="/ip", caller="sleep", token="none", expected=200, got=got, reason="RBAC: <denied>",
        latency_ms=1.5, seconds=0.2, tries=5, verdict="pass" if got == 200 else "fail", passed=got == 200,
    )  # fmt: skip


def probe(number):
    verdict = VERDICTS[number % 5]
    told = dict(probe=f"A{number:02}", title=f"probe {number} <i>", note="why", hop="sidecar", verdict=verdict)
    told["passed"] = verdicts.held(verdict)
    figure = ("figure-2", "figure-1", "hardened")[number % 3]
    got = "200 app" if number % 2 else "401 J15"
    if verdict == "pass":
        told["expected"] = got
    return {**answer(figure, got), **told, "latency_ms": 1.5 * number}


def cells():
    columns = "".join(f"<td>column {number}</td>" for number in range(60))
    wide = f"<table class='dataframe'><tr>{columns}</tr></table>"
    code = nbformat.v4.new_code_cell("answer = 40 + 2\nanswer", execution_count=1)
    code.outputs = [nbformat.v4.new_output("execute_result", {"text/html": wide}, execution_count=1)]
    return [nbformat.v4.new_markdown_cell("# Title\n\ntext"), code]


def opened(driver, path, dark=False, size=DESK):
    scheme(driver, dark)
    screen(driver, size)
    asked_for(driver)
    complaints(driver)
    driver.get(path.as_uri())


def pages(folder):
    return {"index": folder / "index.html", "notebook": folder / "html" / f"{STEPS[0]}.html"}


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> dict[str, Path]:
    """The pages about several runs: two that differ and one that was never sealed; a fleet's; a watch's."""
    outputs = tmp_path_factory.mktemp("several")
    one, other = sealed(outputs, 12), sealed(outputs, 13)
    table = other / "checks.csv"
    table.write_text(table.read_text().replace(",pass,", ",fail,").replace("x" * 90, "y" * 90))
    seal.create("tiny", "b" * 40, datetime(2026, 1, 31, 14, tzinfo=UTC), outputs)
    compared = history_pages.write_comparison(one, other, compare.compare(one, other))
    history = history_pages.write_history(outputs / "tiny")
    return {"compare": compared, "history": history, **standing_pages.write(outputs)}


@pytest.mark.parametrize("name", ["compare", "history", "fleet", "watch"])
@pytest.mark.parametrize("dark", [False, True])
def test_a_page_about_several_runs_is_accessible_and_asks_for_nothing(driver, several, name, dark):
    opened(driver, several[name], dark)
    assert violations(driver) == []
    assert asked_for(driver) == [several[name].as_uri()] and complaints(driver) == []
    shoot(driver, f"{name}-{'dark' if dark else 'light'}")
    screen(driver, PHONE)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    shoot(driver, f"{name}-phone-{'dark' if dark else 'light'}")


@pytest.mark.parametrize("name", ["index", "notebook"])
@pytest.mark.parametrize("dark", [False, True])
def test_a_page_is_accessible_and_asks_for_nothing(driver, folder, name, dark):
    path = pages(folder)[name]
    opened(driver, path, dark)
    assert violations(driver) == []
    assert asked_for(driver) == [path.as_uri()] and complaints(driver) == []
    assert shoot(driver, f"{name}-{'dark' if dark else 'light'}").stat().st_size > 10_000


def test_contrast_is_really_measured(driver, folder):
    opened(driver, folder / "index.html")
    driver.execute_script("document.querySelector('h1').style.color = '#ccc'")
    assert [one for one in violations(driver) if one.startswith("color-contrast: h1")]


@pytest.mark.parametrize("name", ["index", "notebook"])
def test_a_phone_need_not_be_moved_sideways(driver, folder, name):
    opened(driver, pages(folder)[name], size=PHONE)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    shoot(driver, f"{name}-phone", whole=False)


def test_the_dark_page_is_dark(driver, folder):
    colour = "return getComputedStyle(document.body).backgroundColor"
    opened(driver, folder / "index.html")
    light = driver.execute_script(colour)
    opened(driver, folder / "index.html", dark=True)
    assert light == "rgb(255, 255, 255)" and driver.execute_script(colour) == "rgb(13, 17, 23)"


def shown(driver, table):
    rows = driver.find_elements(By.CSS_SELECTOR, f"#{table} > tbody > tr")
    return [row.text for row in rows if row.is_displayed()]


def form(driver, table):
    return driver.find_element(By.CSS_SELECTOR, f"form[data-table={table}]")


def test_checks_are_filtered_by_words_verdict_and_step(driver, folder):
    opened(driver, folder / "index.html")
    checks = form(driver, "checks-table")
    assert len(shown(driver, "checks-table")) == 40
    Select(checks.find_element(By.NAME, "verdict")).select_by_value("error")
    assert len(shown(driver, "checks-table")) == 8
    Select(checks.find_element(By.NAME, "step")).select_by_value("02-b")
    found = shown(driver, "checks-table")
    assert len(found) == 4 and all("02-b" in row and "! error" in row for row in found)
    checks.find_element(By.NAME, "text").send_keys("CHECK 12")
    assert len(shown(driver, "checks-table")) == 1
    assert checks.find_element(By.TAG_NAME, "output").text == "1 of 40 rows"
    checks.find_element(By.TAG_NAME, "button").click()
    driver.execute_async_script("setTimeout(arguments[0], 20)")
    assert len(shown(driver, "checks-table")) == 40 and complaints(driver) == []


def test_probes_and_responses_are_filtered(driver, folder):
    opened(driver, folder / "index.html")
    driver.find_element(By.CSS_SELECTOR, "#probes summary").click()
    assert len(shown(driver, "probes-table")) == 60
    Select(form(driver, "probes-table").find_element(By.NAME, "verdict")).select_by_value("waived")
    assert len(shown(driver, "probes-table")) == 12
    form(driver, "responses-table").find_element(By.NAME, "text").send_keys("no such words")
    assert shown(driver, "responses-table") == []


def test_the_keyboard_gets_to_the_content_and_into_wide_tables(driver, folder):
    opened(driver, folder / "index.html")
    body = driver.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    first = driver.switch_to.active_element
    assert first.text == "To the content" and first.is_displayed()
    first.send_keys(Keys.ENTER)
    assert driver.switch_to.active_element.get_attribute("id") == "main"
    seen = set()
    for _ in range(60):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        seen.add(driver.switch_to.active_element.get_attribute("aria-label"))
    assert {"The checks", "Heat map of the probes", "What was built, and who was let through"} <= seen


def test_paper_has_all_of_it_and_no_controls(driver, folder):
    opened(driver, folder / "index.html")
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert all(one.get_attribute("open") for one in driver.find_elements(By.TAG_NAME, "details"))
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not form(driver, "checks-table").is_displayed()
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    made = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert made.startswith(b"%PDF") and len(zlib.compress(made)) > 20_000


def test_code_is_folded_and_opens(driver, folder):
    opened(driver, pages(folder)["notebook"])
    code = driver.find_element(By.CSS_SELECTOR, "details.code")
    assert "answer = 40 + 2" in code.text and not code.find_element(By.TAG_NAME, "pre").is_displayed()
    code.find_element(By.TAG_NAME, "summary").click()
    assert code.find_element(By.TAG_NAME, "pre").is_displayed()


def test_without_scripts_all_rows_are_there_and_no_dead_controls(driver, folder):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened(driver, folder / "index.html")
        assert len(shown(driver, "checks-table")) == 40 and not form(driver, "checks-table").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_script_that_is_not_ours_does_not_run(driver, folder, tmp_path):
    path = tmp_path / "index.html"
    path.write_text((folder / "index.html").read_text().replace("</main>", "</main><script>window.hit = 1</script>"))
    opened(driver, path)
    assert driver.execute_script("return window.hit") is None
    assert any("Content Security Policy" in one for one in complaints(driver))


ACTING = """
<meta http-equiv="refresh" content="0;url=http://127.0.0.1:9/refresh"><base href="http://127.0.0.1:9/base/">
<form action="http://127.0.0.1:9/form"><input name="q" autofocus><button id="send">send</button></form>
<div id="cover" style="position:fixed;inset:0;background:white;z-index:9">Passed: all 9999 checks held</div>
<style>nav { display: none } @import "http://127.0.0.1:9/css";</style><link rel="stylesheet" href="http://127.0.0.1:9/l">
<iframe src="http://127.0.0.1:9/frame"></iframe><iframe srcdoc="<script>parent.hit = 1</script>"></iframe>
<svg onload="window.hit = 1"><script>window.hit = 1</script><image href="http://127.0.0.1:9/image"/></svg>
<img src="x" onerror="window.hit = 1"><a id="link" href="javascript:window.hit = 1">link</a>
<object data="http://127.0.0.1:9/object"></object><video autoplay src="http://127.0.0.1:9/video"></video>
"""


@pytest.mark.parametrize("mime", ["text/html", "text/markdown", "image/svg+xml", "source"])
def test_what_a_cell_shows_cannot_act(driver, tmp_path, mime):
    code = nbformat.v4.new_code_cell("1", execution_count=1)
    code.outputs = [nbformat.v4.new_output("display_data", {mime: ACTING})] if mime != "source" else []
    text = nbformat.v4.new_markdown_cell(ACTING if mime == "source" else "# Title")
    nbformat.write(nbformat.v4.new_notebook(cells=[text, code]), tmp_path / "01-a.ipynb")
    page = tmp_path / "01-a.html"
    page.write_text(index_page.notebook(tmp_path / "01-a.ipynb"))
    opened(driver, page)
    for link in driver.find_elements(By.ID, "link"):
        link.click()
    driver.execute_async_script("setTimeout(arguments[0], 300)")
    assert driver.current_url.partition("#")[0] == page.as_uri()
    assert not [url for url in asked_for(driver) if ":9/" in url]
    assert driver.execute_script("return window.hit") is None
    assert not driver.find_elements(By.CSS_SELECTOR, "form, iframe, base, object, main style, main script")
    back = driver.find_element(By.CSS_SELECTOR, "nav a")
    at = "const r = arguments[0].getBoundingClientRect(); return document.elementFromPoint(r.x + 5, r.y + 5)"
    assert driver.execute_script(at, back) == back and back.get_attribute("href").startswith("file:")


def test_a_page_sends_no_form_and_has_no_other_base(driver, folder, tmp_path):
    path = tmp_path / "index.html"
    more = "<base href='http://127.0.0.1:9/'><form action='http://127.0.0.1:9/form'><button id=send>x</button></form>"
    path.write_text((folder / "index.html").read_text().replace("<main", f"{more}<main"))
    opened(driver, path)
    driver.find_element(By.ID, "send").click()
    assert driver.execute_script("return document.baseURI") == path.as_uri()
    assert not [url for url in asked_for(driver) if "/form" in url]
