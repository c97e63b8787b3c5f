"""How a node's parts start: nobody unnamed gets in, and every file that a line names is made."""

import json
import re
import tomllib
from ipaddress import ip_address, ip_network

import pytest

from sandbox.node import command_lines

NODE, HOST, NAME = "198.18.0.10", "198.18.0.1", "ip-198-18-0-10.ec2.internal"
ISSUER = "https://oidc.eks.us-east-1.amazonaws.com/id/A"
LINES = {
    "etcd": command_lines.etcd(),
    "apiserver": command_lines.apiserver(NODE, ISSUER),
    "controller_manager": command_lines.controller_manager(),
    "scheduler": command_lines.scheduler(),
    "kubelet": command_lines.kubelet(NAME, NODE, "group"),
    "proxy": command_lines.proxy(NAME),
    "containerd": command_lines.containerd(),
}
CERTIFICATES = command_lines.certificates(NODE, HOST, NAME)
OWN = {"ca", "service-accounts"}  # made beside what the CA signs


def flags(line):
    """The flags of a command line; one without a value is true."""
    return dict((word.removeprefix("--").split("=", 1) + ["true"])[:2] for word in line[1:] if word.startswith("--"))


def by_file():
    return {file: (name, organization, hosts) for file, name, organization, hosts in CERTIFICATES}


@pytest.mark.parametrize("name", LINES)
def test_no_flag_is_repeated_or_disables_a_protection(name):
    words = [word.split("=")[0] for word in LINES[name] if word.startswith("--")]
    assert len(words) == len(set(words))
    text = " ".join(LINES[name])
    assert not re.search(r"insecure|AlwaysAllow|anonymous-auth=true|token-auth-file|basic-auth|skip-tls", text)
    assert "0.0.0.0" not in text and "http://" not in text


def test_apiserver_asks_rbac_and_the_webhook():
    found = flags(LINES["apiserver"])
    assert found["authorization-mode"] == "Node,RBAC,Webhook"
    assert found["enable-admission-plugins"] == "NodeRestriction,DenyServiceExternalIPs"
    assert found["admission-control-config-file"] == "/etc/kubernetes/admission.json"
    assert found["authentication-token-webhook-config-file"] == "/etc/kubernetes/authentication-webhook.json"
    assert found["authentication-token-webhook-version"] == found["authorization-webhook-version"] == "v1"
    assert found["authorization-webhook-config-file"] == "/etc/kubernetes/authorization-webhook.json"
    assert found["client-ca-file"] == "/etc/kubernetes/ca.crt"
    assert found["bind-address"] == found["advertise-address"] == NODE


def test_apiserver_verifies_etcd_and_the_kubelet():
    found = flags(LINES["apiserver"])
    assert found["etcd-servers"].startswith("https://127.0.0.1:") and "etcd-cafile" in found
    assert found["kubelet-certificate-authority"] == "/etc/kubernetes/ca.crt"
    assert {"kubelet-client-certificate", "kubelet-client-key", "etcd-certfile", "etcd-keyfile"} <= set(found)


def test_apiserver_trusts_a_front_proxy_with_one_name_only():
    wanted = flags(LINES["apiserver"])["requestheader-allowed-names"]
    assert [file for file, (name, _, _) in by_file().items() if name == wanted] == ["front-proxy"]


def test_etcd_requires_a_certificate_and_listens_on_loopback():
    found = flags(LINES["etcd"])
    assert found["client-cert-auth"] == "true" and found["trusted-ca-file"] == "/etc/kubernetes/ca.crt"
    assert all(found[f"listen-{kind}-urls"].startswith("https://127.0.0.1:") for kind in ("client", "peer"))


@pytest.mark.parametrize("name", ["controller_manager", "scheduler"])
def test_controllers_listen_on_loopback_and_ask_the_apiserver(name):
    found = flags(LINES[name])
    assert found["bind-address"] == "127.0.0.1" and found["profiling"] == "false"
    assert found["kubeconfig"] == found["authentication-kubeconfig"] == found["authorization-kubeconfig"]


def test_kubelet_refuses_anonymous_requests():
    found = command_lines.kubelet_config("/eks-sandbox-one")
    assert found["authentication"]["anonymous"] == {"enabled": False}
    assert found["authentication"]["webhook"] == {"enabled": True}
    assert found["authentication"]["x509"] == {"clientCAFile": "/etc/kubernetes/ca.crt"}
    assert found["authorization"] == {"mode": "Webhook"} and found["readOnlyPort"] == 0
    assert found["cgroupRoot"] == "/eks-sandbox-one"
    assert found["containerRuntimeEndpoint"] == f"unix://{command_lines.SOCKET}"
    assert json.loads(json.dumps(found)) == found


def test_kubelets_node_name_is_that_of_its_certificate():
    found = flags(LINES["kubelet"])
    assert by_file()["kubelet"][:2] == (f"system:node:{found['hostname-override']}", "system:nodes")
    assert set(by_file()["kubelet-server"][2]) == {found["node-ip"], found["hostname-override"]}
    assert found["node-labels"] == "eks.amazonaws.com/nodegroup=group"


def test_certificates_are_unique_by_file():
    files = [file for file, *_ in CERTIFICATES]
    assert len(set(files)) == len(files) and not OWN & set(files)


def test_only_the_administrator_certificates_are_in_system_masters():
    masters = {file for file, (_, organization, _) in by_file().items() if organization == "system:masters"}
    assert masters == {"admin", "apiserver-kubelet"}


def test_apiservers_certificate_has_each_of_its_names():
    hosts = by_file()["apiserver"][2]
    first = str(ip_network(command_lines.SERVICE_NETWORK)[1])
    assert {NODE, first, "localhost", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"} <= set(hosts)
    assert by_file()["webhook"][2] == (HOST,)


@pytest.mark.parametrize("name", LINES)
def test_every_certificate_that_a_line_names_is_made(name):
    config = command_lines.kubelet_config("/") if name == "kubelet" else ""
    named = set(re.findall(r"/etc/kubernetes/([\w-]+)\.(?:crt|key|pub|kubeconfig)", f"{LINES[name]}{config}"))
    assert named <= OWN | set(by_file())


def test_every_line_starts_another_program():
    assert len({line[0] for line in LINES.values()}) == len(LINES)
    assert all("/" not in line[0] for line in LINES.values())


def test_the_networks_are_apart_and_dns_is_a_service():
    pods, services = ip_network(command_lines.POD_NETWORK), ip_network(command_lines.SERVICE_NETWORK)
    assert not pods.overlaps(services) and ip_address(command_lines.DNS) in services
    assert flags(LINES["apiserver"])["service-cluster-ip-range"] == str(services)
    assert flags(LINES["proxy"])["cluster-cidr"] == str(pods)
    assert command_lines.kubelet_config("/")["clusterDNS"] == [command_lines.DNS]


def test_written_files_parse_in_their_formats():
    found = command_lines.files("https://198.18.0.1:4600", "baseline")
    for file, path in (("authentication-webhook.json", "authenticate"), ("authorization-webhook.json", "authorize")):
        cluster = {"server": f"https://198.18.0.1:4600/{path}", "certificate-authority": "/etc/kubernetes/ca.crt"}
        assert json.loads(found[file])["clusters"] == [{"name": "w", "cluster": cluster}]
        client = {"client-certificate": "/etc/kubernetes/apiserver-webhook.crt",
                  "client-key": "/etc/kubernetes/apiserver-webhook.key"}  # fmt: skip
        assert json.loads(found[file])["users"] == [{"name": "apiserver", "user": client}]
    assert by_file()["apiserver-webhook"][1:] == ("", ())  # no group of Kubernetes, no server
    logged, rest = json.loads(found["audit.json"])["rules"]
    assert logged == {"level": "Metadata", "userGroups": ["system:serviceaccounts:runbook", "runbook-fleet"]}
    assert rest == {"level": "None"}
    (plugin,) = json.loads(found["admission.json"])["plugins"]
    assert plugin["name"] == "PodSecurity" and plugin["configuration"]["defaults"]["enforce"] == "baseline"
    bridge, _ = json.loads(found["10-bridge.conflist"])["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": command_lines.POD_NETWORK}]]
    containerd = tomllib.loads(found["containerd.toml"])
    assert containerd["grpc"]["address"] == command_lines.SOCKET
    assert "pause" in containerd["plugins"]["io.containerd.grpc.v1.cri"]["sandbox_image"]
