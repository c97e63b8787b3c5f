"""EKS in this process as the sandbox has it: moto's, with what moto lacks, and nodes that are there at once."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import contextmanager

from moto import mock_aws
from moto.eks import urls

from lib import params
from lib.record.events import Record
from lib.run import Run
from sandbox.eks import api
from sandbox.eks.clusters import Clusters
from sandbox.iam import access_keys, moto_memory
from tests.support.account import client
from tests.support.account import session as new_session
from tests.support.stated import REAL

REGION = "us-east-1"


class AtOnce:
    """An executor that works in the caller's own thread."""

    def submit(self, work):
        done = Future()
        done.set_result(work())
        return done

    def shutdown(self, **_):
        """There is nothing to end."""


class Node:
    """A node that comes up, takes a group and leaves it, at once."""

    endpoint, ca_pem = "https://198.18.0.10:6443", b"CA"

    def __init__(self, *_):
        """Whoever asks is nobody's business here."""

    def start_control_plane(self):
        """Is up."""

    def join(self, node_group, count):
        """Has joined."""

    def set_labels_and_taints(self, labels, taints):
        """Has them."""

    def leave(self, node_group):
        """Has left."""

    def stop(self):
        """Has ended."""

    def addon_healthy(self, addon):
        return True


def step(session, env: str, **changed) -> Run:
    """Step 01 by params of a real account in `session`, with `changed` ones."""
    stated = {"env": env, "deadline": 5, **REAL, **changed}
    run = Run("01-cluster", params.Params(**stated), Record())
    run.aws = lambda name: client(session, name)
    return run


@contextmanager
def account():
    """A session of an empty account, with IAM's own policies, whose EKS is the sandbox's; the caller is its admin."""
    before = dict(urls.url_paths)
    moto_memory.keep()
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        first = new_session()
        first.client("iam").create_user(UserName="admin")
        key = first.client("iam").create_access_key(UserName="admin")["AccessKey"]
        quiet = (lambda *_: lambda: None, lambda line: None)  # opens no endpoint on a link, and logs nothing
        api.install(Clusters(Node, "1.36", REGION, set(), access_keys.find, *quiet, lambda name: AtOnce()))
        try:
            yield new_session(key["AccessKeyId"], key["SecretAccessKey"], region_name=REGION)
        finally:
            urls.url_paths.clear()
            urls.url_paths.update(before)
