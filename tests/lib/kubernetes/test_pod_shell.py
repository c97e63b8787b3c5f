"""A shell in a pod takes one command after another: output, exit code and input are each command's own."""

import os
import select
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.errors import ClusterError
from lib.kubernetes.pod_shell import SHELLS, PodShells

PLACE = ("pod", "home", "container")


class LocalShell:
    """A real sh of this machine, as kubernetes' WSClient shows one in a pod."""

    def __init__(self):
        self.process = subprocess.Popen(["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.text = b""

    def is_open(self):
        return self.process.poll() is None

    def write_stdin(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def update(self, timeout):
        if select.select([self.process.stdout], [], [], timeout)[0]:
            self.text += os.read(self.process.stdout.fileno(), 65536)

    def read_stdout(self, timeout):
        text, self.text = self.text, b""
        return text.decode()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def opened():
    shells: list[LocalShell] = []
    yield shells
    for shell in shells:
        shell.close()


@pytest.fixture
def shells(opened):
    def connect(place):
        opened.append(LocalShell())
        return opened[-1]

    return PodShells(connect)


def test_one_shell_serves_commands_that_come_after_each_other(shells, opened):
    assert shells.run(PLACE, ["sh", "-c", "printf one; exit 3"]) == ("one", 3)
    assert shells.run(PLACE, ["sh", "-c", "printf '%s' \"$1\"", "x", "it's $HOME `id`"]) == ("it's $HOME `id`", 0)
    assert shells.run(PLACE, ["sh", "-c", 'head -c "$1"', "x", "3"], "abcdef") == ("abc", 0)
    assert len(opened) == 1


def test_input_arrives_as_it_is(shells):
    text = "url = \"http://é\"\n$HOME `id` $(id) \\n 'quoted'\nend"
    assert shells.run(PLACE, ["sh", "-c", "cat"], text) == (f"{text}\n", 0)
    assert shells.run(PLACE, ["sh", "-c", "cat"]) == ("", 0)
    assert shells.run(PLACE, ["sh", "-c", "wc -c"], "x" * 500_000)[0].strip() == "500001"


def test_commands_at_once_share_a_few_shells(shells, opened):
    with ThreadPoolExecutor(3 * SHELLS) as pool:
        answers = list(pool.map(lambda n: shells.run(PLACE, ["sh", "-c", f"sleep 0.1; echo {n}"]), range(3 * SHELLS)))
    assert answers == [(f"{n}\n", 0) for n in range(3 * SHELLS)]
    assert 2 <= len(opened) <= SHELLS


def test_a_shell_that_ended_is_an_error_and_the_next_command_has_a_new_one(shells, opened):
    with pytest.raises(ClusterError, match="expected exec in the pod to end"):
        shells.run(PLACE, ["exec", "true"])
    assert shells.run(PLACE, ["sh", "-c", "echo again"]) == ("again\n", 0)
    opened[-1].close()
    assert shells.run(PLACE, ["sh", "-c", "echo third"]) == ("third\n", 0)
    assert len(opened) == 3
