"""The commands on the command line: exit codes, dry run, files, and the baseline."""

import io
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from lib.crypto import jwt
from lib.probes.__main__ import main
from lib.probes.model import Probe
from lib.probes.reporting import results
from lib.probes.transport.messages import Reply
from tests.support.little_mesh import AUDIENCE, ISSUER, mesh, signed
from tests.support.loopback import served

GOOD = signed()


@pytest.fixture
def commanded(tmp_path):
    """Run the command with a good token against an address; give its exit code and what it said."""
    file = tmp_path / "token"
    file.write_text(GOOD)

    def run(address, *more):
        console = Console(file=io.StringIO(), width=250)
        options = ["--url", f"http://{address}/orders", "--issuer", ISSUER, "--audience", AUDIENCE, "--rate", "500"]
        code = main([*options, "--token-command", f"cat {file}", "--families", "A01,A02,B01,B05,B07", *more], console)
        return code, console.file.getvalue()

    return run


def test_the_command_says_0_for_a_whole_mesh_and_1_for_a_hole(commanded, tmp_path):
    csv, junit = tmp_path / "r.csv", tmp_path / "r.xml"
    with served(mesh()) as address:
        code, said = commanded(address, "--csv", str(csv), "--junit", str(junit))
    assert (code, "0 red" in said) == (0, True)
    every = results.read(csv)
    assert {"B01", "B05", "B07"} <= {one.id for one in every if one.verdict == "pass"}
    assert len(list(ET.parse(junit).iter("testcase"))) == len(every)
    for text in (said, csv.read_text(), junit.read_text()):
        assert "eyJ" not in text
    with served(mesh("no authorization")) as address:
        assert commanded(address)[0] == 1


def test_the_command_says_2_where_nothing_answers(commanded):
    with served(mesh()) as address:
        pass
    assert commanded(address)[0] == 2
    assert commanded("mesh.example", "--audience", "another")[0] == 2


def test_a_dry_run_sends_nothing_and_shows_no_token(commanded):
    heads = []
    with served(mesh(asked=heads)) as address:
        code, said = commanded(address, "--dry-run")
    assert (code, heads) == (0, [])
    assert "GET /orders HTTP/1.1" in said and jwt.fingerprint(GOOD) in said and "eyJ" not in said


def test_the_command_keeps_baselines_and_refuses_to_change_them(tmp_path):
    measured = Probe(id="B04", title="a title", source="a source", expect="403 R", measured=True)
    csv, file = tmp_path / "r.csv", str(tmp_path / "b.yml")
    console = Console(file=io.StringIO(), width=250)
    keep = ["baseline", str(csv), "--istio", "1", "--envoy", "2", "--keycloak", "3", "--file", file]
    results.write([results.judge(measured, "figure-2", "403 R", Reply(403))], csv)
    assert main(keep, console) == 0
    results.write([results.judge(measured, "figure-2", "200 app", Reply(200))], csv)
    assert main(keep, console) == 1
    assert "B04, figure-2: was 403 R, is 200 app" in console.file.getvalue()
    assert main([*keep, "--accept"], console) == 0
    assert main(keep, console) == 0
