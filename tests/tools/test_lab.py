"""A learner's notebooks: copies that stay as the learner left them, and are never lost."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.tiny import write_notebook
from tools import lab

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def originals(tmp_path):
    (tmp_path / "notebooks" / "labs").mkdir(parents=True)
    write_notebook(tmp_path / "notebooks" / "01-a.ipynb", "1")
    write_notebook(tmp_path / "notebooks" / "labs" / "01-b.ipynb", "1")
    return tmp_path / "notebooks"


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def test_every_notebook_is_copied_with_the_language_that_its_kernel_reports(originals, tmp_path):
    work = tmp_path / "work"
    assert lab.renew(originals, work, NOW) == []
    names = sorted(path.relative_to(work).as_posix() for path in work.rglob("*.ipynb"))
    assert names == ["01-a.ipynb", "labs/01-b.ipynb"]
    copy, original = (json.loads((folder / "01-a.ipynb").read_text()) for folder in (work, originals))
    assert copy["metadata"]["language_info"]["codemirror_mode"] == {"name": "ipython", "version": 3}
    assert copy["cells"] == original["cells"] and copy["metadata"]["kernelspec"] == original["metadata"]["kernelspec"]


def test_a_copy_stays_as_the_learner_left_it(originals, tmp_path):
    work = tmp_path / "work"
    lab.renew(originals, work, NOW)
    edit(work / "01-a.ipynb", "Title", "My title")
    assert lab.renew(originals, work, NOW) == []
    assert "My title" in (work / "01-a.ipynb").read_text()


def test_a_changed_original_renews_the_copy_and_keeps_the_learners(originals, tmp_path):
    work = tmp_path / "work"
    lab.renew(originals, work, NOW)
    edit(work / "01-a.ipynb", "Title", "My title")
    for name in ("01-a.ipynb", "labs/01-b.ipynb"):
        edit(originals / name, "Title", "New title")
    kept = lab.renew(originals, work, NOW)
    assert kept == [work / "01-a.kept-20260131T120000Z.ipynb"] and "My title" in kept[0].read_text()
    assert all("New title" in (work / name).read_text() for name in ("01-a.ipynb", "labs/01-b.ipynb"))
    assert lab.renew(originals, work, NOW) == []


def test_a_file_that_the_tool_did_not_write_is_kept(originals, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "01-a.ipynb").write_text("{}")
    assert [path.read_text() for path in lab.renew(originals, tmp_path / "work", NOW)] == ["{}"]


def test_the_links_of_every_notebook_lead_somewhere_from_its_copy(tmp_path):
    root = Path(lab.ROOT)
    for part in ("docs", "lib", "notebooks", "params", "outputs", "sandbox", "README.md"):
        (tmp_path / part).symlink_to(root / part)
    lab.renew(root / "notebooks", tmp_path / "work", NOW)
    for path in (tmp_path / "work").rglob("*.ipynb"):
        text = "".join("".join(cell["source"]) + "\n" for cell in json.loads(path.read_text())["cells"])
        links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
        assert [link for link in links if not (path.parent / link).resolve().exists()] == [], path.name
        assert "![" not in text
