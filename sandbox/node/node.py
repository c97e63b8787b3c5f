"""One cluster: a control plane and one node, real, in namespaces of its own; an ordered list of small actions."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from lib.polling import until, wait
from sandbox.host import cgroups, veth
from sandbox.node import authenticator, certificates, command_lines
from sandbox.node.controllers import Controllers
from sandbox.paths import LOGS, NODES, RUN

WEBHOOK_PORT = 8443


class NodeFailed(Exception):
    """One sentence: which part did not come up, and where its log is."""


class Node:
    """A cluster by name; its processes end with the process that made it."""

    def __init__(
        self,
        name: str,
        number: int,
        parts: dict[str, Path],
        authenticate: Callable[[str], dict | None],
        authorize: Callable[[dict], bool],
        log,
    ) -> None:
        self.name, self.parts, self.log = name, parts, log
        self.link = veth.Link(number)
        self.state, self.images = RUN / name, NODES / name / "containerd"
        self.etc, self.logs = self.state / "etc", LOGS / name
        self.endpoint = f"https://{self.link.node}:6443"
        self.ca_pem = b""
        self.node_name = f"ip-{self.link.node.replace('.', '-')}.ec2.internal"
        self._authenticate, self._authorize = authenticate, authorize
        self._processes: dict[str, subprocess.Popen] = {}
        self._init: subprocess.Popen | None = None
        self._controllers: Controllers | None = None
        self._webhook = None
        self._importing: threading.Thread | None = None
        self._import_error = ""

    # The actions, in their order

    def start_control_plane(self) -> None:
        """Start everything up to an API server that is ready; raise NodeFailed, and leave nothing, otherwise."""
        try:
            self._enter_namespaces()
            self._make_certificates()
            self._start_webhook()
            self._spawn("etcd", command_lines.etcd())
            self._spawn("containerd", command_lines.containerd())
            self._importing = threading.Thread(target=self._import_images, daemon=True)
            self._spawn("kube-apiserver", command_lines.apiserver(self.link.node))
            self._await_ready()
            self._importing.start()
            self._spawn("kube-controller-manager", command_lines.controller_manager())
            self._spawn("kube-scheduler", command_lines.scheduler())
            self._controllers = Controllers(self.admin_kubeconfig, self.link.balancers, self.state / "upper", self.log)
            self._controllers.start()
        except Exception:
            self.stop()
            raise

    def join(self, node_group: str, count: int) -> None:
        """Start the kubelet and wait until the Node is Ready; one real node stands for a group of any size."""
        if count != 1:
            self.log(f"{self.name}: node group {node_group} asks for {count} nodes; this machine gives one")
        kubelet = command_lines.kubelet_config(cgroups.make(self.name))
        (self.etc / "kubelet.json").write_text(json.dumps(kubelet))
        self._spawn("kubelet", command_lines.kubelet(self.node_name, self.link.node, node_group))
        self._spawn("kube-proxy", command_lines.proxy(self.node_name))
        self._importing.join(300)
        if self._import_error:
            raise NodeFailed(self._import_error)
        wait(
            f"node {self.node_name} Ready",
            lambda: self._controllers.node_ready(self.node_name),
            deadline=120,
            fix=f"see {self.logs}",
        )

    def set_labels_and_taints(self, labels: dict[str, str], taints: list[dict[str, str]]) -> None:
        """Give the Node these labels and taints, and take away those that an earlier call gave."""
        self._controllers.set_labels_and_taints(self.node_name, labels, taints)

    def leave(self, node_group: str) -> None:
        """End the kubelet and its pods, and take the Node away."""
        for name in ("kubelet", "kube-proxy"):
            self._end(name)
        self._enter(
            "alias ctr='ctr -a /run/containerd.sock -n k8s.io'\nctr tasks ls -q | while read -r task; do"
            ' ctr tasks kill -a -s KILL "$task"; done'
        )
        self._controllers.forget_node(self.node_name)

    def stop(self) -> None:
        """End every process, mount, link and cgroup of the cluster; what it imported stays."""
        if self._controllers:
            self._controllers.stop()
        if self._webhook:
            self._webhook.shutdown()
            self._webhook.server_close()
            self._webhook = None
        if self._init:
            self._init.kill()
            self._init.wait()
            for process in self._processes.values():
                process.wait()
        veth.remove(self.link.name)
        until(lambda: cgroups.remove(self.name) or self.name not in cgroups.leftovers(), deadline=20)
        shutil.rmtree(self.state, ignore_errors=True)

    def addon_healthy(self, addon: str) -> bool:
        """Whether what stands for one of EKS's add-ons is as it should be; what a node has not cannot be otherwise."""
        if addon == "coredns":
            return bool(self._controllers and self._controllers.available("coredns", "kube-system"))
        if addon == "kube-proxy" and "kube-proxy" in self._processes:  # without nodes there is none to fail
            return self._processes["kube-proxy"].poll() is None
        return True

    @property
    def admin_kubeconfig(self) -> Path:
        """The sandbox's own way in; users have their AWS identity."""
        return self.etc / "admin.kubeconfig"

    def processes(self) -> dict[str, dict]:
        """Return, by part, the pid, the resident memory in MiB and whether it runs."""
        return {name: _described(process) for name, process in self._processes.items()}

    # What they are made of

    def _enter_namespaces(self) -> None:
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir(parents=True)
        settings = {
            "STATE": self.state,
            "IMAGES": self.images,
            "PROGRAMS": self.parts["programs"],
            "NODE_NAME": self.node_name,
        }
        settings["LOWERS"] = f"{self.parts['node'] / 'upper'}:{self.parts['base'] / 'root'}"
        environment = {"PATH": os.environ["PATH"], **{key: str(value) for key, value in settings.items()}}
        command = [
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--fork",
            "--kill-child",
            "sh",
            str(Path(__file__).with_name("init.sh")),
        ]
        with (self.logs / "init.log").open("w") as log:
            self._init = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_end_with_parent
            )
        pid = wait("the node's first process", lambda: _child(self._init.pid), deadline=10)
        self._enter_command = [
            "nsenter",
            "--target",
            str(pid),
            "--mount",
            "--net",
            "--pid",
            "--uts",
            "--ipc",
            "--root",
            "--wd=/",
            "--",
        ]
        ready = Path(f"/proc/{pid}/root/run/init-done")
        wait("the node's root file system", ready.exists, deadline=20, fix=f"see {self.logs / 'init.log'}")
        veth.up(self.link, pid, ["nsenter", "--target", str(pid), "--net", "--"])

    def _make_certificates(self) -> None:
        ca = certificates.authority(self.etc, "ca", f"eks-sandbox {self.name}")
        self.ca_pem = ca.pem
        for file, name, organization, hosts in command_lines.certificates(
            self.link.node, self.link.host, self.node_name
        ):
            ca.issue(file, name, organization, hosts)
        certificates.key_pair(self.etc, "service-accounts")
        inside = Path("/etc/kubernetes")
        for file in ("controller-manager", "scheduler", "kubelet", "proxy"):
            certificates.kubeconfig(
                self.etc / f"{file}.kubeconfig",
                self.endpoint,
                inside / "ca.crt",
                inside / f"{file}.crt",
                inside / f"{file}.key",
            )
        certificates.kubeconfig(
            self.admin_kubeconfig, self.endpoint, self.etc / "ca.crt", self.etc / "admin.crt", self.etc / "admin.key"
        )
        for file, content in command_lines.files(f"https://{self.link.host}:{WEBHOOK_PORT}").items():
            (self.etc / file).write_text(content)

    def _start_webhook(self) -> None:
        files = self.etc / "webhook.crt", self.etc / "webhook.key"
        asked = self._authenticate, self.log, self._authorize
        self._webhook = authenticator.serve(self.link.host, WEBHOOK_PORT, *files, *asked)

    def _await_ready(self) -> None:
        from lib.kubernetes.cluster import Cluster

        cluster = Cluster.from_kubeconfig(self.admin_kubeconfig)

        server = self._processes["kube-apiserver"]

        def settled() -> bool:
            return server.poll() is not None or cluster.ready()

        wait("kube-apiserver /readyz", settled, deadline=90, fix=f"see {self.logs}")
        if server.poll() is not None:
            log = self.logs / "kube-apiserver.log"
            raise NodeFailed(f"expected kube-apiserver to run, got exit code {server.returncode}; see {log}")

    def _import_images(self) -> None:
        archive = self.parts["images"] / "images.tar"
        mark = self.images.parent / "imported"
        if mark.is_file() and mark.read_text() == self.parts["images"].name:
            return
        wait(
            "containerd",
            lambda: self._enter("ctr -a /run/containerd.sock version", check=False).returncode == 0,
            deadline=60,
        )
        with archive.open("rb") as content:
            command = [
                *self._enter_command,
                "ctr",
                "-a",
                "/run/containerd.sock",
                "-n",
                "k8s.io",
                "images",
                "import",
                "-",
            ]
            done = subprocess.run(command, stdin=content, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip()[-200:]
            self._import_error = f"expected the images to be imported, got {said}; see {self.logs / 'containerd.log'}"
            return
        mark.write_text(self.parts["images"].name)

    def _spawn(self, name: str, command: list[str]) -> None:
        with (self.logs / f"{name}.log").open("a") as log:
            line = [*self._enter_command, "env", "-i", f"PATH={command_lines.PATH}", "HOME=/root", *command]
            self._processes[name] = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process and (pid := _child(process.pid)):
            os.kill(pid, signal.SIGKILL)
            process.wait()

    def _enter(self, script: str, check: bool = True) -> subprocess.CompletedProcess:
        return subprocess.run([*self._enter_command, "sh", "-c", script], check=check, capture_output=True, text=True)


def _end_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: whatever kills the endpoint ends its nodes


def _child(pid: int) -> int:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return int(children[0]) if children else 0


def _described(process: subprocess.Popen) -> dict:
    pid = _child(process.pid)
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        memory = next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        memory = 0
    return {"pid": pid, "memory_mib": memory, "running": bool(pid) and process.poll() is None}
