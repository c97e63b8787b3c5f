"""Why was it refused? A request is sent, and what refused it, why, and what to change is said, with the evidence.

from lib import why
print(why.ask(run.cluster, url, token=token))
"""

from __future__ import annotations

from lib.diagnose import allowed, authorization, connectivity, jwt
from lib.diagnose.diagnosis import Diagnosis, told
from lib.diagnose.evidence import Scene
from lib.diagnose.evidence import ask as look
from lib.kubernetes.cluster import Cluster

CAUSES = (connectivity.diagnosed, jwt.diagnosed, authorization.diagnosed, allowed.diagnosed)


def ask(
    cluster: Cluster,
    url: str,
    token: str | None = None,
    caller: str = "",
    host: str = "",
    method: str = "GET",
    to: str = "",
) -> Diagnosis:
    """Send one request, and return who refused it (or let it through), why, and what to change.

    It is sent from here (`to` is an address to connect to in place of the URL's host), or from a pod of `caller`: its
    app label, or namespace/app. `host` is the Host header where it is not the URL's. RunbookError where there is no
    such pod. The token is in nothing that is returned.
    """
    return diagnose(look(cluster, url, token, caller, host, method, to))


def diagnose(scene: Scene) -> Diagnosis:
    """Return the first cause that explains a scene."""
    for find in CAUSES:
        if found := find(scene):
            return found
    return told(scene, "application", "no policy refused it: this is the application's own answer", "ask its people")
