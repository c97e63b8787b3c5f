"""One run on one cluster; the message to a second run names the holder."""

import subprocess
import sys

import pytest

from lib.errors import Locked
from lib.runner.lock import held, identity

WHO = {"user": "alice", "host": "box", "pid": 7, "since": "2026-01-01T00:00:00Z", "command": "run --env dev"}
HOLDER = """
import sys
from pathlib import Path
from lib.runner.lock import held
with held("c", {**dict(user="alice", host="box", pid=7, since="today", command="run --env dev")}, Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_reads_who_holds_the_lock(tmp_path):
    with held("a", WHO, tmp_path):
        words = r"in use \(a\) by alice@box \(process 7\) since 2026-01-01T.* for: run --env dev. Wait"
        with pytest.raises(Locked, match=words), held("a", WHO, tmp_path):
            pass
        with held("b", WHO, tmp_path):
            pass
    with held("a", WHO, tmp_path):
        pass


def test_the_lock_ends_with_its_process(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(Locked, match="alice@box"), held("c", WHO, tmp_path):
            pass
        process.kill()
    with held("c", WHO, tmp_path):
        pass


def test_identity_differs_if_clusters_do():
    aws = {"cluster_source": "eks", "aws_endpoint_url": None, "aws_profile": None, "region": "r", "cluster_name": "n"}
    existing = {"cluster_source": "existing", "kube_context": "kind-a"}
    others = [{"region": "s"}, {"aws_endpoint_url": "http://127.0.0.1:1"}, {"aws_profile": "p"}]
    assert len({identity(one) for one in [aws, existing, *({**aws, **other} for other in others)]}) == 5
    assert identity(existing) == "kube context kind-a"
