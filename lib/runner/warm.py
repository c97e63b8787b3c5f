"""What each kernel of a run would do again: the fork server imports this last, and the kernels are forked from it."""

from __future__ import annotations

import gc

from lib.aws import session
from lib.render import compiled

compiled("overview.svg.j2")  # each step draws the cluster
known = session.descriptions(None)
for name in ("endpoints", "partitions"):
    known.load_data(name)
for part in ("service-2", "endpoint-rule-set-1"):  # each step signs its token as a request to STS
    known.load_service_model("sts", part)

# The collector of garbage writes to each object that it looks at, and in a fork that copies the object's page.
# Source: https://docs.python.org/3/library/gc.html#gc.freeze
gc.freeze()
