"""A law: whatever moto runs is what the gate allowed, for random requests that two readers can read differently.

moto's own record is its authorization hook, which it calls with each operation before it runs. LAW_REQUESTS sets the
number of requests: 300, and 20000 for the full count.
"""

import io
import json
import os
import random
from unittest.mock import patch
from urllib.parse import quote, unquote, urlencode

import pytest
from botocore.credentials import Credentials
from moto.core.responses import ActionAuthenticatorMixin
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from sandbox.aws.gate import Gate
from sandbox.iam import access_keys, authorization, resources
from tests.support.raw_aws import FORM, signed

COUNT = int(os.environ.get("LAW_REQUESTS", "300"))
HOST = "127.0.0.1:4599"
JSON = {"Content-Type": "application/json"}
LOGS = "Logs_20140328."
RIGHTS = [
    [], ["iam:ListUsers"], ["iam:Get*", "iam:List*"], ["s3:GetObject", "s3:ListBucket"], ["eks:Describe*"], ["eks:*"],
    ["s3:PutObject"], ["logs:*", "ec2:Describe*"], ["sts:*"], ["*"],
]  # fmt: skip
DENIES = [
    [], [("iam:*", "arn:aws:iam::123456789012:user/admin")], [("s3:*", "arn:aws:s3:::theirs/*")],
    [("eks:*", "arn:aws:eks:us-east-1:123456789012:cluster/runbook")], [("logs:Delete*", "*"), ("iam:GetUser", "*")],
]  # fmt: skip


def query(version, action, **more):
    return {"form": {"Action": action, "Version": version, **more}}


IAM, STS, EC2 = "2010-05-08", "2011-06-15", "2016-11-15"
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
BASES = [
    ("iam", query(IAM, "ListUsers")), ("iam", query(IAM, "GetUser", UserName="admin")),
    ("iam", query(IAM, "GetUser")), ("iam", query(IAM, "ListAccessKeys", UserName="mallory")),
    ("iam", query(IAM, "PutUserPolicy", UserName="mallory", PolicyName="no", PolicyDocument=POLICY)),
    ("iam", query(IAM, "ListRoles")), ("ec2", query(EC2, "DescribeVpcs")),
    ("ec2", query(EC2, "DescribeSubnets", **{"Filter.1.Name": "vpc-id", "Filter.1.Value.1": "vpc-1"})),
    ("sts", query(STS, "GetCallerIdentity")), ("elasticloadbalancing", query("2015-12-01", "DescribeLoadBalancers")),
    ("eks", {"method": "GET", "path": "/clusters"}), ("eks", {"method": "GET", "path": "/clusters/runbook"}),
    ("eks", {"method": "GET", "path": "/clusters/runbook/access-entries?maxResults=5"}),
    ("eks", {"method": "DELETE", "path": "/clusters/nosuch"}),
    ("eks", {"path": "/clusters/runbook/access-entries", "headers": JSON,
             "body": json.dumps({"principalArn": "arn:aws:iam::123456789012:user/no&Action=ListTags&name=other"})}),
    ("s3", {"method": "GET", "path": "/mine/k"}), ("s3", {"method": "GET", "path": "/theirs/k"}),
    ("s3", {"method": "PUT", "path": "/mine/k", "body": "Action=DeleteBucket&key=x"}),
    ("s3", {"method": "GET", "path": "/mine?list-type=2"}), ("s3", {"method": "GET", "path": "/"}),
    ("s3", {"method": "PUT", "path": "/mine/c", "headers": {"x-amz-copy-source": "/theirs/k"}}),
    ("logs", {"body": "{}", "headers": {"X-Amz-Target": LOGS + "DescribeLogGroups"}}),
    ("logs", {"body": '{"logGroupName": "g"}', "headers": {"X-Amz-Target": LOGS + "DeleteLogGroup"}}),
]  # fmt: skip
NAMES = ["ListUsers", "GetUser", "DeleteCluster", "DescribeCluster", "GetObject", "DeleteBucket", "PutUserPolicy"]


def spelled(chance, text):
    """The text with some of its characters percent-encoded."""
    return "".join(f"%{ord(one):02x}" if one.isalnum() and chance.random() < 0.2 else one for one in text)


def tricks(chance):
    """Changes of a request's parts: each takes the arguments of `signed` and changes them."""
    name, other = chance.choice(NAMES), chance.choice(["iam", "s3", "eks", "sts", "EKS", "Iam", "ec2"])

    def path(made, change):
        before, mark, rest = made.get("path", "/").partition("?")
        made["path"] = change(before) + mark + rest

    def body(made, text):
        if "form" in made:
            made.update(headers={**FORM, **made.get("headers", {})}, body=urlencode(made.pop("form")))
        made["body"] = made.get("body", "") + text

    def header(where, **more):
        return lambda made: made.update({where: {**made.get(where, {}), **more}})

    target = {"X-Amz-Target": f"{chance.choice(['x.', LOGS, ''])}{name}"}
    types = ["Application/x-www-form-urlencoded", "application/json", "application/x-www-form-urlencoded", "text/xml"]
    scope = f"AKIA0000000000000000/20260101/us-east-1/{other}/aws4_request"
    return [
        header("headers", **target), header("unsigned", **target),
        header("headers", **{"Content-Type": chance.choice(types)}),
        header("unsigned", **{"User-Agent": "x region/eu-west-1"}), header("unsigned", **{"x-moto-account-id": "1"}),
        header("headers", **{"Content-Encoding": chance.choice(["gzip", "identity", "aws-chunked"])}),
        header("unsigned", **{"x-amz-copy-source": "/theirs/k"}), header("headers", **{"x-amz-meta-a": name}),
        header("headers", **{"X-HTTP-Method-Override": "DELETE"}), header("headers", **{"x-amz-acl": "private"}),
        lambda made: made.update(host=chance.choice(["theirs.s3.amazonaws.com", "eks.eu-west-1.amazonaws.com", HOST])),
        lambda made: made.update(region=chance.choice(["eu-west-1", "us-east-1", "US-EAST-1", "*", "aws-global"])),
        lambda made: made.update(method=chance.choice(["GET", "POST", "PUT", "DELETE", "get", "HEAD"])),
        lambda made: made.update(change=lambda text: text.replace("Credential=", f"Credential={scope}, Credential=")),
        lambda made: made.update(change=lambda text: text.replace("SignedHeaders=", "SignedHeaders=x-not-sent;")),
        lambda made: made.update(path=made.get("path", "/") + ("&" if "?" in made.get("path", "") else "?")
                                 + urlencode({chance.choice(["Action", "UserName", "name", "key"]): name})),
        lambda made: path(made, lambda text: spelled(chance, text)),
        lambda made: path(made, lambda text: text + chance.choice(["/", "//", "/.", "/../theirs/k", "%2f", "?"])),
        lambda made: path(made, lambda text: "/" + text),
        lambda made: path(made, lambda text: text.replace("mine", chance.choice(["theirs", "moto-api", "latest"]))),
        lambda made: body(made, f"&Action={name}"), lambda made: body(made, "&Version=2010-05-08&UserName=admin"),
        lambda made: made["form"].update({chance.choice(["UserName", "RoleName", "Who"]): "admin"}) if "form" in made
        else body(made, f'{{"name": "x&Action={name}"}}'),
        lambda made: made.update(body="", form=None) or made.pop("form"),
    ]  # fmt: skip


def random_request(chance):
    service, base = chance.choice(BASES)
    made = json.loads(json.dumps(base))
    for trick in chance.sample(tricks(chance), chance.choice([0, 1, 1, 1, 2, 2, 3])):
        trick(made)
    if chance.random() < 0.1:
        service = chance.choice([service.upper(), service.title(), "iam", "s3", "eks", "sts", "logs"])
    return service, made


def wsgi(method, path, body, headers):
    """The environ that werkzeug's server makes of a request."""
    environ = {"REQUEST_METHOD": method, "RAW_URI": path, "PATH_INFO": unquote(path.partition("?")[0], "latin-1"),
               "QUERY_STRING": path.partition("?")[2], "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)),
               "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "4599", "wsgi.url_scheme": "http"}  # fmt: skip
    for name, value in headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = str(value)
    return environ


@pytest.fixture
def gate(world):
    """A gate in front of the same moto, its calls, and what moto ran of them."""
    iam, s3 = world.client("iam"), world.client("s3")
    iam.create_user(UserName="mallory")
    key = iam.create_access_key(UserName="mallory")["AccessKey"]
    for bucket in ("mine", "theirs"):
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    world.cluster()
    rows, calls, ran = [], [], []

    def allowed(call):
        refused = authorization.not_enforced(call) or authorization.refusal(call)
        calls.append((call, refused))
        return refused

    def ran_s3(response, bucket_name=None, key_name=None):
        ran.append(("s3", response._get_action(), response.region, (bucket_name, key_name)))

    def ran_other(response, resource="*"):
        names = {name: response._get_param(name) for name in ("UserName", "RoleName", "name", "logGroupName")}
        action = response._get_action()
        ran.append((response.boto3_service_name, action, response.region, {k: v for k, v in names.items() if v}))

    made = Gate(DomainDispatcherApplication(create_backend_app), {HOST}, access_keys.find, resources.completed,
                list, rows.append, lambda line: None, [allowed])  # fmt: skip
    with (
        patch.object(ActionAuthenticatorMixin, "_authenticate_and_authorize_normal_action", ran_other),
        patch.object(ActionAuthenticatorMixin, "_authenticate_and_authorize_s3_action", ran_s3),
    ):
        yield made, Credentials(key["AccessKeyId"], key["SecretAccessKey"]), rows, calls, ran
    for bucket in ("mine", "theirs"):
        for found in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=found["Key"])
        s3.delete_bucket(Bucket=bucket)
    for policy in iam.list_user_policies(UserName="mallory")["PolicyNames"]:
        iam.delete_user_policy(UserName="mallory", PolicyName=policy)
    iam.delete_access_key(UserName="mallory", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="mallory")


def difference(row, calls, ran):
    """Why what moto ran is not what the gate allowed; "" if it is."""
    if not ran:
        return ""
    if len(calls) != 1 or calls[0][1] or row.get("refused"):
        return "moto ran what the gate had not allowed"
    call = calls[0][0]
    for service, action, region, named in ran:
        if (call.service.replace("elasticloadbalancing", "elbv2"), call.region) != (service, region):
            return "another service or region"
        if service == "s3":
            wanted = call.params.get("Bucket"), call.params.get("Key")
            if named[0] not in (None, wanted[0]) or (named[1] is not None and named[1] != wanted[1]):
                return f"another object: {named}, {wanted}"
        elif action != call.action or row["action"] != action:
            return f"another action: {action}"
        else:
            stated = {**call.params, "name": call.params.get("name") or call.params.get("clusterName")}
            if any(stated.get(name) != value for name, value in named.items()):
                return f"another resource: {named}"
    return ""


def test_whatever_moto_ran_is_what_the_gate_allowed(gate, record_property):
    made, keys, rows, calls, ran = gate
    user = access_keys.holder(access_keys.find(keys.access_key, None))
    chance, differences, ran_count = random.Random(COUNT), [], 0
    for number in range(COUNT):
        if number % 20 == 0:
            user.policies["rights"] = json.dumps({"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": chance.choice(RIGHTS) or ["none:*"], "Resource": "*"},
                *({"Effect": "Deny", "Action": action, "Resource": on} for action, on in chance.choice(DENIES)),
            ]})  # fmt: skip
        user.policies.pop("no", None)
        for record in (rows, calls, ran):
            record.clear()
        service, about = random_request(chance)
        request = signed(keys, service, about.pop("host", HOST), **about)
        b"".join(made(wsgi(*request), lambda status, headers, exc_info=None: None))
        ran_count += bool(ran)
        if why := difference(rows[-1], calls, ran):
            differences.append((why, request[:3], ran[:]))
    record_property("requests, run by moto, differences", f"{COUNT}, {ran_count}, {len(differences)}")
    assert differences == []
    assert ran_count > COUNT / 20  # else the law would say nothing


def test_keys_with_any_character_reach_moto_as_they_are(gate, world):
    s3 = world.client("s3")
    for key in ("a/../k", "./k", "ü %2F+&=?#", "//k", "k/", quote("a b/c")):
        s3.put_object(Bucket="mine", Key=key, Body=key.encode())
        assert s3.get_object(Bucket="mine", Key=key)["Body"].read() == key.encode()
        assert gate[4][-1][3] == ("mine", key)
