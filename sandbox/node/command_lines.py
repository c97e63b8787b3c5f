"""The command line of each part of a node, its configuration files and its certificates."""

from __future__ import annotations

import json

from sandbox.build.image_catalogue import names
from sandbox.paths import POD_NETWORK, SERVICE_NETWORK

ETC = "/etc/kubernetes"
PATH = "/opt/kube:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DNS = "10.100.0.10"
SOCKET = "/run/containerd.sock"
POD_SECURITY_LEVELS = ("privileged", "baseline", "restricted")  # Kubernetes, "Pod Security Standards"

KILL_CONTAINERS = (
    f"alias ctr='ctr -a {SOCKET} -n k8s.io'\n"
    'ctr tasks ls -q | while read -r task; do ctr tasks kill -a -s KILL "$task"; done'
)

Certificate = tuple[str, str, str, tuple[str, ...]]  # file, common name, organization, hosts


def certificates(node: str, host: str, node_name: str) -> list[Certificate]:
    """Return the certificates that the cluster's CA signs."""
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    return [
        ("apiserver", "kube-apiserver", "", (node, "10.100.0.1", "127.0.0.1", "localhost", *service)),
        ("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters", ()),
        ("etcd", "etcd", "", ("127.0.0.1",)),
        ("etcd-client", "kube-apiserver-etcd-client", "", ()),
        ("front-proxy", "front-proxy-client", "", ()),
        ("webhook", "eks-authenticator", "", (host,)),
        ("apiserver-webhook", "kube-apiserver-webhook-client", "", ()),
        ("controller-manager", "system:kube-controller-manager", "", ()),
        ("scheduler", "system:kube-scheduler", "", ()),
        ("kubelet", f"system:node:{node_name}", "system:nodes", ()),
        ("kubelet-server", f"system:node:{node_name}", "system:nodes", (node, node_name)),
        ("proxy", "system:kube-proxy", "", ()),
        ("admin", "eks-sandbox", "system:masters", ()),
    ]


def files(webhook_url: str, pod_security: str) -> dict[str, str]:
    """Return the files of ETC by name.

    Args:
        webhook_url: of the webhook that answers both kinds of review.
        pod_security: the level of POD_SECURITY_LEVELS that namespaces without a label enforce.
    """
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True}
    route = [{"dst": "0.0.0.0/0"}]
    bridge["ipam"] = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_NETWORK}]],
        "routes": route,
        "dataDir": "/run/cni",
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {
        "authentication-webhook.json": json.dumps(_webhook(f"{webhook_url}/authenticate")),
        "authorization-webhook.json": json.dumps(_webhook(f"{webhook_url}/authorize")),
        "admission.json": json.dumps(_admission(pod_security)),
        "audit.json": json.dumps(_AUDIT),
        "10-bridge.conflist": json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}),
        "containerd.toml": _CONTAINERD.format(socket=SOCKET, pause=names()["pause"], etc=ETC),
        "resolv.conf": "",
    }


def _webhook(url: str) -> dict:
    client = {
        f"client-{kind}": f"{ETC}/apiserver-webhook.{end}" for kind, end in (("certificate", "crt"), ("key", "key"))
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "w",
        "clusters": [{"name": "w", "cluster": {"server": url, "certificate-authority": f"{ETC}/ca.crt"}}],
        "users": [{"name": "apiserver", "user": client}],
        "contexts": [{"name": "w", "context": {"cluster": "w", "user": "apiserver"}}],
    }


def _admission(pod_security: str) -> dict:
    """Source: Kubernetes, "Enforce Pod Security Standards by configuring the built-in admission controller"."""
    configuration = {
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        "defaults": {"enforce": pod_security, "enforce-version": "latest"},
    }
    plugins = [{"name": "PodSecurity", "configuration": configuration}]
    return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins}


# The API server logs each call of the runbook's service accounts and of a fleet's pods, without its content: what their
# rights are held to.
# Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts:runbook", "runbook-fleet"]},
        {"level": "None"},
    ],
}

# restrict_oom_score_adj: without it runc fails on a host without CAP_SYS_RESOURCE.
_CONTAINERD = """version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{pause}"
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{etc}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


def containerd() -> list[str]:
    """Return containerd's command line."""
    return ["containerd", "-c", f"{ETC}/containerd.toml"]


def ctr(*words: str) -> list[str]:
    """Return a command line of containerd's client."""
    return ["ctr", "-a", SOCKET, *words]


def etcd() -> list[str]:
    """Return etcd's command line: mutual TLS on loopback; the data is in memory and ends with the sandbox."""
    url, peer = "https://127.0.0.1:2379", "https://127.0.0.1:2380"
    tls = [
        f"--cert-file={ETC}/etcd.crt",
        f"--key-file={ETC}/etcd.key",
        f"--trusted-ca-file={ETC}/ca.crt",
        "--client-cert-auth",
    ]
    tls += [
        f"--peer-cert-file={ETC}/etcd.crt",
        f"--peer-key-file={ETC}/etcd.key",
        f"--peer-trusted-ca-file={ETC}/ca.crt",
    ]
    urls = [f"--listen-client-urls={url}", f"--advertise-client-urls={url}", f"--listen-peer-urls={peer}"]
    urls += [f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"]
    # A single member has nobody to send heartbeats to: rarer ones only wake it less often
    pace = ["--heartbeat-interval=500", "--election-timeout=5000"]  # ms
    return ["etcd", "--data-dir=/run/etcd", "--unsafe-no-fsync", "--log-level=warn", *pace, *urls, *tls]


def apiserver(address: str, issuer: str) -> list[str]:
    """Return kube-apiserver's command line: RBAC, the token webhook of EKS, anonymous users see /healthz alone.

    Args:
        address: the node's.
        issuer: of service accounts' tokens; the cluster's identity.oidc.issuer in EKS.
    """
    return [
        "kube-apiserver",
        "--etcd-servers=https://127.0.0.1:2379",
        f"--etcd-cafile={ETC}/ca.crt",
        f"--etcd-certfile={ETC}/etcd-client.crt",
        f"--etcd-keyfile={ETC}/etcd-client.key",
        f"--advertise-address={address}",
        f"--bind-address={address}",
        "--secure-port=6443",
        f"--tls-cert-file={ETC}/apiserver.crt",
        f"--tls-private-key-file={ETC}/apiserver.key",
        f"--client-ca-file={ETC}/ca.crt",
        "--authorization-mode=Node,RBAC,Webhook",
        # A Service with external addresses could take the API server's, the webhook's or a load balancer's
        "--enable-admission-plugins=NodeRestriction,DenyServiceExternalIPs",
        f"--admission-control-config-file={ETC}/admission.json",
        f"--audit-policy-file={ETC}/audit.json",
        "--audit-log-path=-",  # standard output, and so kube-apiserver.log
        f"--authentication-token-webhook-config-file={ETC}/authentication-webhook.json",
        "--authentication-token-webhook-version=v1",
        "--authentication-token-webhook-cache-ttl=10s",  # a deleted access entry's groups work that much longer
        f"--authorization-webhook-config-file={ETC}/authorization-webhook.json",
        "--authorization-webhook-version=v1",
        "--authorization-webhook-cache-authorized-ttl=10s",  # a removed access policy works that much longer
        "--authorization-webhook-cache-unauthorized-ttl=2s",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        f"--service-account-key-file={ETC}/service-accounts.pub",
        f"--service-account-signing-key-file={ETC}/service-accounts.key",
        f"--service-account-issuer={issuer}",
        "--api-audiences=https://kubernetes.default.svc",  # of tokens that name no audience: as on EKS
        "--allow-privileged=true",
        f"--kubelet-certificate-authority={ETC}/ca.crt",
        f"--kubelet-client-certificate={ETC}/apiserver-kubelet.crt",
        f"--kubelet-client-key={ETC}/apiserver-kubelet.key",
        "--kubelet-preferred-address-types=InternalIP",  # otherwise exec and logs look the node's name up in DNS
        f"--requestheader-client-ca-file={ETC}/ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={ETC}/front-proxy.crt",
        f"--proxy-client-key-file={ETC}/front-proxy.key",
        "--profiling=false",
    ]


def controller_manager() -> list[str]:
    """Return kube-controller-manager's command line."""
    kubeconfig = f"{ETC}/controller-manager.kubeconfig"
    return [
        "kube-controller-manager",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--service-account-private-key-file={ETC}/service-accounts.key",
        f"--root-ca-file={ETC}/ca.crt",
        f"--cluster-signing-cert-file={ETC}/ca.crt",
        f"--cluster-signing-key-file={ETC}/ca.key",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--profiling=false",
    ]


def scheduler() -> list[str]:
    """Return kube-scheduler's command line."""
    kubeconfig = f"{ETC}/scheduler.kubeconfig"
    rest = ["--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false"]
    return [
        "kube-scheduler",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        *rest,
    ]


def kubelet(node_name: str, address: str, node_group: str) -> list[str]:
    """Return the kubelet's command line."""
    return [
        "kubelet",
        f"--config={ETC}/kubelet.json",
        f"--kubeconfig={ETC}/kubelet.kubeconfig",
        f"--hostname-override={node_name}",
        f"--node-ip={address}",
        f"--node-labels=eks.amazonaws.com/nodegroup={node_group}",
        "--housekeeping-interval=30s",  # how often it reads some hundred cgroups, for metrics that nobody reads here
    ]


def kubelet_config(cgroup_root: str) -> dict:
    """Return the KubeletConfiguration: no anonymous access, no read-only port."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{ETC}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{ETC}/kubelet-server.crt",
        "tlsPrivateKeyFile": f"{ETC}/kubelet-server.key",
        "readOnlyPort": 0,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup_root,
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "resolvConf": f"{ETC}/resolv.conf",
        "serializeImagePulls": False,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%"},
        "podLogsDir": "/var/log/pods",
    }


def proxy(node_name: str) -> list[str]:
    """Return kube-proxy's command line."""
    rest = [f"--cluster-cidr={POD_NETWORK}", "--conntrack-max-per-core=0"]
    rest += ["--metrics-bind-address=127.0.0.1:10249", "--healthz-bind-address=127.0.0.1:10256"]
    return [
        "kube-proxy",
        f"--kubeconfig={ETC}/proxy.kubeconfig",
        "--proxy-mode=nftables",
        f"--hostname-override={node_name}",
        *rest,
    ]
