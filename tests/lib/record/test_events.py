"""Events are lines, written at once and redacted; secrets go to the headless run by a pipe."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from lib.record.event_shape import FIELDS
from lib.record.events import Followed, Record, SecretsPipe, now, read
from tests.support.tiny import TOKEN


def test_each_event_is_a_line_at_once(tmp_path):
    record = Record(tmp_path / "01.jsonl")
    record.write("step_started", step="01-a")
    record.write("fact", key="real", value=["Envoy", datetime(2026, 1, 1, tzinfo=UTC)])
    lines = [json.loads(line) for line in (tmp_path / "01.jsonl").read_text().splitlines()]
    assert lines == record.events == read(tmp_path / "01.jsonl")
    assert [line["event"] for line in lines] == ["step_started", "fact"]
    assert lines[1]["value"] == ["Envoy", "2026-01-01 00:00:00+00:00"]


def test_a_file_that_grows_is_read_on_from_the_last_whole_line(tmp_path):
    path = tmp_path / "01.jsonl"
    followed, record = Followed(path), Record(path)
    assert followed.events() == []
    record.write("fact", key="a", value="ä")
    with path.open("ab") as file:
        file.write(b'{"event": "fact"')
    assert followed.events() == record.events
    with path.open("ab") as file:
        file.write(b', "key": "b"}\n')
    assert followed.events() == [*record.events, {"event": "fact", "key": "b"}] == read(path)


def test_in_memory_only():
    record = Record()
    record.write("fact", key="a", value=1)
    assert record.events[0]["value"] == 1


def test_time_is_utc_with_milliseconds():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", now())


def test_nothing_secret_is_written(tmp_path):
    record = Record(tmp_path / "01.jsonl")
    record.secret("hunter2hunter2")
    record.write("check", name=f"token {TOKEN}", actual="hunter2hunter2", passed=True)
    text = (tmp_path / "01.jsonl").read_text()
    assert "hunter2" not in text and "eyJ" not in text


def test_secrets_are_reported_over_the_pipe():
    pipe = SecretsPipe()
    record = Record(None, pipe.writer.fileno())
    for value in ("first\nsecret", "first\nsecret", "", None, "x" * 3000):
        record.secret(value)
    assert pipe.values() == {"first\nsecret", "x" * 3000}
    record.secret("another")
    pipe.close()
    assert "another" in pipe.values()


def test_more_than_a_pipe_holds_is_reported_by_several_threads():
    pipe = SecretsPipe()
    record = Record(None, pipe.writer.fileno())
    many = {f"{number:04}" + "x" * 5000 for number in range(200)}  # a megabyte, each more than one atomic write
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(record.secret, many))
    assert pipe.values() == many
    pipe.close()


def test_a_line_cut_off_is_left_out(tmp_path):
    (tmp_path / "e").write_text('{"event": "fact"}\n{"event": "ch')
    assert read(tmp_path / "e") == [{"event": "fact"}]
    assert read(tmp_path / "none") == []


def test_the_name_of_a_fixed_field_redacts_nothing_and_any_other_name_does():
    record = Record()
    wanted = dict.fromkeys(sorted(FIELDS), "keyJ-0123456789-rotated")
    assert record.write("response", **wanted).items() >= wanted.items()
    assert record.write("response", client_secret="x9z")["client_secret"] == "[redacted]"  # noqa: S106
    assert record.write("fact", key="DB_PASSWORD", value="x9z")["value"] == "[redacted]"


def test_a_secret_that_equals_the_name_of_a_field_loses_no_field():
    record = Record()
    record.secret("passed")
    record.secret("details")
    assert record.write("response", passed=True, details="details")["passed"] is True
    assert record.events[-1]["details"] == "[redacted]"
