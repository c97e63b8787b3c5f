"""A person with a browser: without Chromium or login every check is skipped with its reason; a picture has words."""

import base64
import re
from types import SimpleNamespace

import pytest

from lib.login import chromium
from lib.login.person import Person
from tests.support.little_cluster import Served, new_run, no_file_is_left  # noqa: F401

ACTIONS = ("open_page", "log_in", "check_token", "check_cookies", "second_tab", "outlive_token", "sign_out", "go_back")


def test_without_a_login_no_browser_starts_and_each_check_says_why():
    run = new_run(Served(), tls="off")
    person = Person(run)
    for action in ACTIONS:
        getattr(person, action)()
    person.close()
    assert {check.verdict for check in run.checks} == {"skipped"} and len(run.checks) >= len(ACTIONS)
    assert {check.reason for check in run.checks} == {
        "tls: off: a browser keeps the cookies of a session only with https"
    }


def test_a_missing_program_is_named_with_its_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert chromium.missing() == (
        "no Chromium to log in with: install chromium, chromium-driver, libnss3-tools (as root: make browser)"
    )


def test_a_picture_has_words_and_no_text_that_looks_like_a_token():
    shot = base64.b64decode("eyJhbGciOiJub25lIn0=")
    person = Person(new_run(Served(), tls="off"))
    person.__dict__["_browser"] = SimpleNamespace(driver=SimpleNamespace(get_screenshot_as_png=lambda: shot))
    page = person.picture('a "page" <b>').data
    assert 'alt="a &quot;page&quot; &lt;b&gt;"' in page and "eyJ" not in page
    assert base64.b64decode(re.search(r"base64,([^\"]+)\"", page)[1]) == shot


@pytest.mark.parametrize(("later", "red"), [("s3ss10n", []), ("an0ther", ["the session is the same"])])
def test_the_id_of_a_session_is_compared_and_not_recorded(later, red):
    class Seen(Person):
        answers = [{"jti": "1", "sid": "s3ss10n"}, {"jti": "2", "sid": later}]

        def _claims(self):
            return self.answers.pop(0)

    run = new_run(Served(), tls="off")
    person = Seen(run)
    person.reason = ""
    person.__dict__["_browser"] = SimpleNamespace(driver=SimpleNamespace(delete_cookie=lambda name: None))
    told = f"{person.outlive_token()} {run.checks}"
    assert [check.name for check in run.checks if check.red] == red
    assert "s3ss10n" not in told and later not in told
