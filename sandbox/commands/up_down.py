"""Start the sandbox, and end it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from sandbox.build.builder import build
from sandbox.commands import endpoint, leftovers
from sandbox.eks import delays
from sandbox.host import inotify_limit, requirements
from sandbox.paths import CREDENTIALS, LOGS, NODES, RUN


def up() -> None:
    """Build the missing parts and start the AWS endpoint, unless it runs already."""
    if endpoint.answers():
        return
    delays.from_environment(os.environ)  # reports a wrong value before the build takes minutes
    requirements.require()
    build(partial(print, flush=True))
    leftovers.remove()
    make_private(CREDENTIALS.parent, LOGS, NODES, RUN)
    requirements.require_port()
    requirements.require_free(0)
    inotify_limit.widen()
    endpoint.start()


def make_private(*folders: Path) -> None:
    """Create folders that this user alone may enter; existing ones become so."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)


def down() -> None:
    """End the endpoint and with it every cluster. Raises BuildFailed if anything but the cache is left."""
    endpoint.stop()
    leftovers.remove()
    leftovers.require_none()
