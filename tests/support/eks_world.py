"""A sandbox's AWS endpoint with fake nodes, shared by the tests and emptied between them."""

import configparser
import http.client
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from joserfc.jwk import ECKey
from moto.core.base_backend import BackendDict
from moto.eks import urls

from lib.polling import until
from sandbox.aws import server
from sandbox.eks.delays import Delays
from sandbox.iam import access_keys
from tests.support import account

VERSION = "1.36"
QUICK = {"Delay": 0.02, "MaxAttempts": 500}


def set_paths(paths: dict) -> None:
    """Set who answers EKS's requests in this process."""
    urls.url_paths.clear()
    urls.url_paths.update(paths)


class FakeNode:
    """A node that comes up when it is let, and remembers its calls and their threads."""

    endpoint, ca_pem = "https://198.18.0.10:6443", b"-----BEGIN CERTIFICATE-----"

    def __init__(self, name, version, authenticate, authorize, pod_security, issuer, open_aws):
        self.name, self.version, self.authenticate, self.authorize = name, version, authenticate, authorize
        self.pod_security, self.issuer, self.open_aws = pod_security, issuer, open_aws
        self.key = ECKey.generate_key("P-256", {"alg": "ES256", "use": "sig"}, auto_kid=True)  # of tokens
        self.go, self.errors, self.done, self.threads = threading.Event(), {}, [], set()

    def _act(self, name, *values):
        self.threads.add(threading.get_ident())
        if not self.go.wait(10) or name in self.errors:
            raise RuntimeError(self.errors.get(name, "never let go"))
        self.done.append((name, *values))

    def start_control_plane(self):
        self._act("start")

    def join(self, node_group, count):
        self._act("join", node_group, count)

    def set_labels_and_taints(self, labels, taints):
        self._act("set_labels_and_taints", dict(labels), list(taints))

    def leave(self, node_group):
        self._act("leave", node_group)

    def stop(self):
        self._act("stop")

    def signing_keys(self):
        return {"keys": [self.key.as_dict(private=False)]}

    def addon_healthy(self, addon):
        return addon not in self.errors


class World:
    """A running endpoint with fake nodes, and boto3 clients of it."""

    def __init__(self, folder):
        self.nodes, self.clients, self.roles = {}, {}, {}
        self.lines, self.errors, self.hold = [], {}, False
        self.delays = Delays()  # not at all; a test sets the scale
        self.credentials, self.calls_log = folder / "aws" / "credentials", folder / "calls.jsonl"
        BackendDict.reset()  # the S3 of other tests has made an IAM without AWS's own policies
        before = dict(urls.url_paths)
        self.server = server.serve(
            0,
            self.make_node,
            self.credentials,
            VERSION,
            log=self.lines.append,
            calls_log=self.calls_log,
            processes=lambda name: {"etcd": {"pid": 1}},
            delays=self.delays,
        )
        self.paths = dict(urls.url_paths)
        set_paths(before)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let moto's EKS be the sandbox's for a while: the tests of lib in this process have moto's own."""
        before = dict(urls.url_paths)
        set_paths(self.paths)
        try:
            yield
        finally:
            set_paths(before)

    def whole(self) -> bool:
        """Return whether moto still knows the administrator: each `mock_aws` forgets all there was before it."""
        return access_keys.find(self.session.get_credentials().access_key, None) is not None

    def make_node(self, *values):
        node = self.nodes[values[0]] = FakeNode(*values)
        node.errors = self.errors
        if not self.hold:
            node.go.set()
        return node

    @cached_property
    def session(self):
        said = configparser.ConfigParser()
        said.read(self.credentials)
        return account.session(said["sandbox"]["aws_access_key_id"], said["sandbox"]["aws_secret_access_key"])

    def client(self, service, session=None, **options):
        if session or options:
            return (session or self.session).client(service, endpoint_url=self.server.url, **options)
        if service not in self.clients:  # EC2's takes a third of a second to make
            self.clients[service] = self.session.client(service, endpoint_url=self.server.url)
        return self.clients[service]

    def calls(self):
        return [json.loads(line) for line in self.calls_log.read_text().splitlines()]

    def role(self, name, service):
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        if name not in self.roles:
            made = self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)
            self.roles[name] = made["Role"]["Arn"]
        return self.roles[name]

    def subnets(self):
        asked = [{"Name": "default-for-az", "Values": ["true"]}]
        return [subnet["SubnetId"] for subnet in self.client("ec2").describe_subnets(Filters=asked)["Subnets"][:2]]

    def cluster(self, name="runbook", session=None, **more):
        """Ask for a cluster with role and subnets as they should be; `more` is on top."""
        role = self.role("cluster", "eks.amazonaws.com")
        stated = {"roleArn": role, "version": VERSION, "resourcesVpcConfig": {"subnetIds": self.subnets()}}
        return self.client("eks", session).create_cluster(name=name, **{**stated, **more})["cluster"]

    def group(self, name="nodes", cluster="runbook", **more):
        scaling = {"minSize": 2, "maxSize": 2, "desiredSize": 2}
        role = self.role("node", "ec2.amazonaws.com")
        stated = {"nodeRole": role, "subnets": self.subnets(), "scalingConfig": scaling, **more}
        return self.client("eks").create_nodegroup(clusterName=cluster, nodegroupName=name, **stated)["nodegroup"]

    def active(self, name="runbook", session=None, **more):
        """The fake node of a cluster that was asked for and became ACTIVE."""
        self.cluster(name, session, **more)
        self.until("cluster_active", name)
        return self.nodes[name]

    def until(self, waiter, cluster="runbook"):
        named = (
            {"name": cluster} if waiter.startswith("cluster") else {"clusterName": cluster, "nodegroupName": "nodes"}
        )
        self.client("eks").get_waiter(waiter).wait(**named, WaiterConfig=QUICK)

    def raw(self, method, path, body=None, headers=None):
        """The HTTP status of a request that boto3 has no hand in."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        connection.request(method, path, body, headers or {})
        return connection.getresponse().status

    def shown(self):
        """What GET /_sandbox/clusters says."""
        with urllib.request.urlopen(f"{self.server.url}/_sandbox/clusters", timeout=5) as answer:
            return json.load(answer)

    def empty(self):
        """Let every node go, delete every cluster and every user but the administrator."""
        self.errors.clear()
        self.delays.scale = 0
        for node in self.nodes.values():
            node.go.set()
        self._settle()
        for cluster in self.shown():
            for group in cluster["nodeGroups"]:
                self.client("eks").delete_nodegroup(clusterName=cluster["name"], nodegroupName=group["name"])
        self._settle()
        for cluster in self.shown():
            self.client("eks").delete_cluster(name=cluster["name"])
        self._settle()
        self.nodes.clear()
        self._delete_users()
        self.hold = False
        self.lines.clear()
        self.calls_log.unlink(missing_ok=True)

    def _delete_users(self):
        iam = self.client("iam")
        for name in [one["UserName"] for one in iam.list_users()["Users"]]:
            if name == "admin":
                continue
            for policy in iam.list_attached_user_policies(UserName=name)["AttachedPolicies"]:
                iam.detach_user_policy(UserName=name, PolicyArn=policy["PolicyArn"])
            for policy in iam.list_user_policies(UserName=name)["PolicyNames"]:
                iam.delete_user_policy(UserName=name, PolicyName=policy)
            for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
                iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
            iam.delete_user(UserName=name)

    def _settle(self):
        busy = ("CREATING", "DELETING", "UPDATING")
        states = lambda: [thing["status"] for cluster in self.shown() for thing in (cluster, *cluster["nodeGroups"])]  # noqa: E731
        assert until(lambda: not set(busy) & set(states()), deadline=10, pause=0.01).held
