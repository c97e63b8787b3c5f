"""A learner's seat: JupyterLab in a real browser, a notebook opened, all of it run, its verdict read."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from lib.polling import wait
from tests.support.browser import DESK, chromium, screen, shoot
from tests.support.runbook import ROOT, python

pytestmark = pytest.mark.sandbox
TOKEN = secrets.token_hex(16)
RUN = """
const done = arguments[arguments.length - 1], app = window.jupyterapp;
app.restored.then(() => app.commands.execute("notebook:run-all-cells")).then(() => done("ran"), (e) => done(String(e)));
"""
CELLS = """
const panel = window.jupyterapp.shell.currentWidget, cells = panel.content.widgets;
return cells.filter((one) => one.model.type === "code").map((one) => ({
  count: one.model.executionCount,
  text: [...Array(one.model.outputs.length).keys()]
    .map((n) => JSON.stringify(one.model.outputs.get(n).toJSON())).join(" "),
}));
"""
READY = """
const app = window.jupyterapp, panel = app && app.shell.currentWidget;
return Boolean(panel && panel.context && panel.context.isReady && panel.sessionContext && panel.sessionContext.isReady
  && panel.sessionContext.session && panel.sessionContext.session.kernel.status === "idle");
"""
# The facts that JupyterLab writes into a notebook when its kernel has answered: only then can it be marked as changed
LANGUAGE = """
const done = arguments[arguments.length - 1], panel = window.jupyterapp.shell.currentWidget;
panel.sessionContext.session.kernel.info.then((info) => setTimeout(() => done(info.language_info.name), 1000));
"""
CHANGED = "return window.jupyterapp.shell.currentWidget.context.model.dirty;"


@pytest.fixture(scope="module")
def lab(first, tmp_path_factory):
    """Start JupyterLab as `make lab` does, on a free port; return its address."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = subprocess.run(["make", "-n", "-s", "lab"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = flags.replace("\\\n", " ").rsplit("-m jupyterlab", 1)[1].split()
    words += ["--no-browser", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    words += ["--LabApp.expose_app_in_browser=True"]
    home = tmp_path_factory.mktemp("jupyter")
    environment = {**os.environ, "JUPYTER_TOKEN": TOKEN, "JUPYTER_CONFIG_DIR": str(home), "PYTHONPATH": str(ROOT)}
    environment |= {"JUPYTER_CONFIG_PATH": str(ROOT / "tools" / "jupyter"), "JUPYTERLAB_WORKSPACES_DIR": str(home)}
    command = [sys.executable, "-m", "jupyterlab", *words]
    subprocess.run([sys.executable, "tools/lab.py"], cwd=ROOT, env=environment, check=True)
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            wait("JupyterLab to listen", lambda: _listens(port), deadline=60)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


def _listens(port: int) -> bool:
    with closing(socket.socket()) as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.mark.parametrize("step", ["00-start-here", "09-client-mtls", "10-end-user-policy", "11-testing", "12-figure-1"])
def test_a_notebook_is_opened_and_run_from_its_first_cell_to_its_last(lab, driver, step):
    copy, original = ROOT / "work" / f"{step}.ipynb", ROOT / "notebooks" / f"{step}.ipynb"
    before = copy.read_bytes(), original.read_bytes()
    try:
        screen(driver, DESK)
        driver.get(f"{lab}/lab/tree/work/{step}.ipynb?reset&token={TOKEN}")
        wait("the notebook and its kernel", lambda: driver.execute_script(READY), deadline=90)
        assert driver.execute_async_script(LANGUAGE) == "python"
        assert driver.execute_script(CHANGED) is False
        driver.set_script_timeout(400)
        assert driver.execute_async_script(RUN) == "ran"
        wait("its last cell", lambda: driver.execute_script(CELLS), lambda cells: bool(cells[-1]["text"]), deadline=400)
        cells = driver.execute_script(CELLS)
        assert all(cell["count"] for cell in cells)
        assert "checks passed**" in cells[-1]["text"], cells[-1]["text"]
        assert not [cell["text"] for cell in cells if '"output_type":"error"' in cell["text"]]
        assert shoot(driver, f"lab-{step}", whole=False).stat().st_size > 30_000
        assert original.read_bytes() == before[1]
    finally:
        copy.write_bytes(before[0])  # JupyterLab saves what was run


def test_nobody_gets_in_without_the_token(lab):
    from lib.http_client import over_http

    assert over_http(f"{lab}/api/contents").status == 403
    assert over_http(f"{lab}/lab").status in (302, 403)


def test_a_step_out_of_order_names_the_step_that_is_missing(first, tmp_path):
    words = ["notebooks/10-end-user-policy.ipynb", str(tmp_path / "x.ipynb"), "-p", "realm", "nowhere"]
    done = python("-m", "papermill", *words, limit=200)
    assert done.returncode == 1 and "run 04-realm-and-client first" in done.stderr + done.stdout
