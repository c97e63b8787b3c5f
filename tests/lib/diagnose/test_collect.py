"""What is read from logs: since when, on a machine that is slow to answer."""

import time
from datetime import UTC, datetime

from lib import diagnose
from lib.diagnose.collect import collect
from lib.diagnose.request import Request
from tests.support import recorded_mesh
from tests.support.recorded_mesh import istiod, pod, service

REFUSED = "warn delta ADS:LDS: ACK ERROR web-1.shop-7 Internal:Error adding/updating listener(s): no keys"


class Busy(recorded_mesh.Mesh):
    """A recorded mesh whose proxies' logs come a second late; istiod's log is as old as the mesh."""

    began = 0.0

    def logs(self, name, namespace, container, seconds):
        """The log of a pod of the last seconds."""
        if container == "discovery":
            return REFUSED if time.time() - self.began < seconds else ""
        time.sleep(1.1)
        return super().logs(name, namespace, container, seconds)


def test_a_refused_configuration_is_found_though_the_logs_come_late():
    """The proxy refuses a policy at once, and `why` reads that a second after it has read the policy."""
    policy = {
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": datetime.now(UTC).isoformat()},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "rules": []},
    }
    pods = [pod("web", "shop", {"app": "web"}, "10.0.0.8"), pod("caller", "shop", {"app": "caller"}, "10.0.0.7")]
    objects = [*pods, service("web", "shop", {"app": "web"}, 8000, 8080), *istiod({"accessLogFile": "/dev/stdout"})]
    mesh = Busy([*objects, policy], {"status": 200, "body": "{}"}, {"web": [200, "", "via_upstream", "127.0.0.6:8080"]})
    mesh.began = time.time()
    evidence = collect(mesh, Request("http://web.shop:8000/headers"), "caller", lambda name: set(), mesh.send)
    found = diagnose.diagnose(evidence)
    assert found.cause == "config-rejected", str(found)
