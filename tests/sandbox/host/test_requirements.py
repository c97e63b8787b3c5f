"""The sandbox says what a machine lacks before anything changes."""

import os
import subprocess
import sys

import pytest

ASK = "from sandbox.host.requirements import require_free; require_free(0)"


NETWORKS = [("10.244.0.0/16", "the cluster's pods"), ("10.100.0.0/16", "the cluster's Services")]


@pytest.mark.parametrize(("links", "used_by"), NETWORKS)
def test_a_link_inside_a_network_of_the_cluster_is_refused(links, used_by):
    asked = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, "EKS_SANDBOX_LINKS": links},
        capture_output=True,
        text=True,
    )
    assert f"got it in use by {used_by}; set EKS_SANDBOX_LINKS" in asked.stderr
