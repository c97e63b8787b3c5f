"""One cluster: a control plane and one node, real, in namespaces of its own; an ordered list of small actions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path

from joserfc.jwk import KeySetSerialization

from lib.kubernetes.cluster import Cluster
from lib.polling import wait
from sandbox.host import cgroups, veth
from sandbox.host.link_filter import LinkFilter
from sandbox.node import certificates, command_lines, image_store, webhook
from sandbox.node.controllers import Controllers
from sandbox.node.namespaces import Namespaces
from sandbox.node.webhook import Authenticate, Authorize
from sandbox.paths import AWS_PORT, LOGS, NODES, RUN

WEBHOOK_PORT = 8443

# Deadlines in seconds, for a machine whose two cores are busy. On an idle one the API server is ready after about 4 s
# and the Node after some more.
API_SERVER, NODE_READY = 90, 120

OpenAws = Callable[[str, Path, Path], Callable[[], None]]  # address, certificate, key -> what closes it


class NodeFailed(Exception):
    """One sentence: which part did not start, and where its log is."""


class Node:
    """A cluster by name; its programs end with the process that made it.

    Args:
        name: the cluster's name.
        number: of its link, 0 to 255.
        parts: the built parts' folders.
        authenticate: maps a token to its user.
        authorize: decides a SubjectAccessReview, after RBAC.
        pod_security: the level of command_lines.POD_SECURITY_LEVELS for namespaces without a label.
        issuer: of service accounts' tokens.
        open_aws: opens the AWS endpoint on the link's address.
        log: takes one line.
    """

    def __init__(
        self,
        name: str,
        number: int,
        parts: dict[str, Path],
        authenticate: Authenticate,
        authorize: Authorize,
        pod_security: str,
        issuer: str,
        open_aws: OpenAws,
        log: Callable[[str], None],
    ) -> None:
        self.name, self.parts, self.log = name, parts, log
        self.link = veth.Link(number)
        self.state, self.images = RUN / name, NODES / name / "containerd"
        self.etc, self.logs = self.state / "etc", LOGS / name
        self.endpoint = f"https://{self.link.node}:6443"
        self.ca_pem, self.pod_security = b"", pod_security
        self.node_name = f"ip-{self.link.node.replace('.', '-')}.ec2.internal"
        self._authenticate, self._authorize, self._issuer = authenticate, authorize, issuer
        self._open_aws, self._close_aws = open_aws, lambda: None
        self._namespaces: Namespaces | None = None
        self._controllers: Controllers | None = None
        self._webhook: ThreadingHTTPServer | None = None
        self._filter: LinkFilter | None = None

    # The actions, in their order

    def start_control_plane(self) -> None:
        """Start everything up to a ready API server; on BuildFailed, NodeFailed or TimedOut, end everything."""
        try:
            image_store.ensure(self.images, self.parts)
            self._enter_namespaces()
            self._make_certificates()
            self._start_listeners()
            self._spawn("etcd", command_lines.etcd())
            self._spawn("containerd", command_lines.containerd())
            self._spawn("kube-apiserver", command_lines.apiserver(self.link.node, self._issuer))
            self._wait_for_api_server()
            self._spawn("kube-controller-manager", command_lines.controller_manager())
            self._spawn("kube-scheduler", command_lines.scheduler())
            self._start_controllers()
        except Exception:
            self.stop()
            raise

    def join(self, node_group: str, count: int) -> None:
        """Start the kubelet and wait until pods can be made; one real node stands for a group of any size.

        That is when the Node is Ready and the namespace `default` has its service account, which a controller makes.
        """
        if count != 1:
            self.log(f"{self.name}: node group {node_group} asks for {count} nodes; this machine gives one")
        kubelet = command_lines.kubelet_config(cgroups.make(self.name))
        (self.etc / "kubelet.json").write_text(json.dumps(kubelet))
        self._spawn("kubelet", command_lines.kubelet(self.node_name, self.link.node, node_group))
        self._spawn("kube-proxy", command_lines.proxy(self.node_name))
        fix, account = f"see {self.logs}", ("v1", "ServiceAccount", "default", "default")
        ready = lambda: self.controllers.node_ready(self.node_name)  # noqa: E731
        wait(f"node {self.node_name} Ready", ready, deadline=NODE_READY, fix=fix)
        wait("the first service account", lambda: self.controllers.cluster.find(*account), deadline=NODE_READY, fix=fix)

    def set_labels_and_taints(self, labels: dict[str, str], taints: list[dict[str, str]]) -> None:
        """Give the Node these labels and taints, and remove those of the last call."""
        self.controllers.set_labels_and_taints(self.node_name, labels, taints)

    def leave(self, node_group: str) -> None:
        """End the kubelet and its pods, and delete the Node."""
        for name in ("kubelet", "kube-proxy"):
            self.namespaces.kill(name)
        self.namespaces.run(["sh", "-c", command_lines.KILL_CONTAINERS], check=True)
        self.controllers.forget_node(self.node_name)

    def stop(self) -> None:
        """End every process, mount, link and cgroup of the cluster; the imported images stay."""
        if self._controllers:
            self._controllers.stop()
        self._close_aws()
        if self._webhook:
            self._webhook.shutdown()
            self._webhook.server_close()
            self._webhook = None
        if self._namespaces:
            self._namespaces.close()
        if self._filter:
            self._filter.close()
        veth.remove(self.link.name)
        cgroups.wait_removed(self.name)
        shutil.rmtree(self.state, ignore_errors=True)

    def addon_healthy(self, addon: str) -> bool:
        """Return whether the node's part for an add-on of EKS runs; True for an add-on without such a part."""
        if addon == "coredns":
            return bool(self._controllers and self._controllers.available("coredns", "kube-system"))
        if addon == "kube-proxy" and "kube-proxy" in self.processes():  # it runs on nodes alone
            return self.namespaces.exit_code("kube-proxy") is None
        return True

    def signing_keys(self) -> KeySetSerialization:
        """Return the keys of service accounts' tokens, a JSON Web Key Set, from the API server."""
        return json.loads(self.controllers.cluster.raw("/openid/v1/jwks"))

    @property
    def admin_kubeconfig(self) -> Path:
        """The sandbox's own kubeconfig, with a client certificate; users have their AWS identity."""
        return self.etc / "admin.kubeconfig"

    @property
    def namespaces(self) -> Namespaces:
        """The namespaces of a started cluster."""
        if not self._namespaces:
            raise NodeFailed(f"expected the cluster {self.name} to be started, got none; see {self.logs}")
        return self._namespaces

    @property
    def controllers(self) -> Controllers:
        """The controllers of a started cluster."""
        if not self._controllers:
            raise NodeFailed(f"expected the cluster {self.name} to be started, got no controllers; see {self.logs}")
        return self._controllers

    def processes(self) -> dict[str, dict]:
        """Return, by part: pid, memory_mib (resident) and running."""
        return self._namespaces.describe() if self._namespaces else {}

    # The parts of the actions

    def _enter_namespaces(self) -> None:
        self._namespaces = Namespaces(self.node_name, self.state, self.images, self.parts, self.logs)
        self._namespaces.wait_ready()
        veth.up(self.link, self._namespaces.pid, self._namespaces.network_command)
        self._filter = LinkFilter(self.link, (WEBHOOK_PORT, AWS_PORT), self._namespaces.root_command)

    def _make_certificates(self) -> None:
        ca = certificates.authority(self.etc, "ca", f"eks-sandbox {self.name}")
        self.ca_pem = ca.pem
        for leaf in command_lines.certificates(self.link.node, self.link.host, self.node_name):
            ca.issue(*leaf)
        certificates.key_pair(self.etc, "service-accounts")
        inside = Path(command_lines.ETC)
        for name in ("controller-manager", "scheduler", "kubelet", "proxy"):
            self._write_kubeconfig(name, inside)
        self._write_kubeconfig("admin", self.etc)
        url = f"https://{self.link.host}:{WEBHOOK_PORT}"
        for file, content in command_lines.files(url, self.pod_security).items():
            (self.etc / file).write_text(content)

    def _write_kubeconfig(self, name: str, pki: Path) -> None:
        files = pki / "ca.crt", pki / f"{name}.crt", pki / f"{name}.key"
        certificates.kubeconfig(self.etc / f"{name}.kubeconfig", self.endpoint, *files)

    def _start_listeners(self) -> None:
        files = self.etc / "webhook.crt", self.etc / "webhook.key", self.etc / "apiserver-webhook.crt"
        reviews = self._authenticate, self.log, self._authorize
        self._webhook = webhook.serve(self.link.host, WEBHOOK_PORT, *files, *reviews)
        self._close_aws = self._open_aws(self.link.host, *files[:2])

    def _wait_for_api_server(self) -> None:
        cluster = Cluster.from_kubeconfig(self.admin_kubeconfig)
        ended = lambda: self.namespaces.exit_code("kube-apiserver")  # noqa: E731
        settled = lambda: ended() is not None or cluster.ready()  # noqa: E731
        wait("kube-apiserver /readyz", settled, deadline=API_SERVER, fix=f"see {self.logs}")
        if ended() is not None:
            log = self.logs / "kube-apiserver.log"
            raise NodeFailed(f"expected kube-apiserver to run, got exit code {ended()}; see {log}")

    def _start_controllers(self) -> None:
        run = self.namespaces.run
        self._controllers = Controllers(self.admin_kubeconfig, self.link.load_balancers, run, self.log)
        self._controllers.start()

    def _spawn(self, name: str, command: list[str]) -> None:
        self.namespaces.spawn(name, command)
