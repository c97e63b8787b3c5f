"""Attacks on the gate by somebody with few rights: each is refused, and the request that it imitates is refused too."""

import json
from types import SimpleNamespace

import boto3
import pytest
from botocore.credentials import Credentials

from tests.support.raw_aws import FORM, signed

ACCOUNT = "123456789012"
EVERYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}
CLUSTER = f"arn:aws:eks:us-east-1:{ACCOUNT}:cluster/runbook"
CAPITAL = {"Content-Type": "Application/x-www-form-urlencoded"}
FREE = {"X-Amz-Target": "x.GetCallerIdentity"}


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action, resource="*"):
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def deny(action, resource="*"):
    return {**allow(action, resource), "Effect": "Deny"}


def trusts(principal):
    return document({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"})


@pytest.fixture
def mallory(world):
    """A user whose policies a test sets, with a way to send any request; the roles and buckets to attack."""
    iam, s3 = world.client("iam"), world.client("s3")
    iam.create_user(UserName="mallory")
    key = iam.create_access_key(UserName="mallory")["AccessKey"]
    keys, host = Credentials(key["AccessKeyId"], key["SecretAccessKey"]), f"127.0.0.1:{world.server.port}"
    roles = {}
    for name, principal in (("service", {"Service": "ec2.amazonaws.com"}), ("open", {"AWS": ACCOUNT})):
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trusts(principal))["Role"]
        roles[name] = made["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document(EVERYTHING))
    for bucket in ("mine", "secret"):
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="k", Body=b"TOPSECRET")

    def may(*statements):
        iam.put_user_policy(UserName="mallory", PolicyName="p", PolicyDocument=document(*statements))

    def send(service, use=keys, **about):
        return world.raw(*signed(use, service, about.pop("host", host), **about))

    def assume(session=None, **about):
        client = world.client("sts", session or boto3.Session(keys.access_key, keys.secret_key, None, "us-east-1"))
        made = client.assume_role(**{"RoleArn": roles["open"], "RoleSessionName": "s1", **about})["Credentials"]
        return boto3.Session(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"], "us-east-1")

    may(deny("none:*"))
    yield SimpleNamespace(world=world, iam=iam, s3=s3, keys=keys, roles=roles, may=may, send=send, assume=assume)
    for name in ("service", "open"):
        for role in [one for one in iam.list_roles()["Roles"] if one["RoleName"] == name]:
            iam.delete_role_policy(RoleName=role["RoleName"], PolicyName="p")
            iam.delete_role(RoleName=role["RoleName"])
    for bucket in ("mine", "secret"):
        for found in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=found["Key"])
        s3.delete_bucket(Bucket=bucket)
    iam.delete_user_policy(UserName="mallory", PolicyName="p")
    iam.delete_access_key(UserName="mallory", AccessKeyId=keys.access_key)
    iam.delete_user(UserName="mallory")


def first_credential(keys, service):
    scope = f"{keys.access_key}/20260101/us-east-1/{service}/aws4_request"
    return lambda header: header.replace("Credential=", f"Credential={scope}, Credential=", 1)


PUT_POLICY = {"Action": "PutUserPolicy", "Version": "2010-05-08", "UserName": "mallory", "PolicyName": "all",
              "PolicyDocument": document(EVERYTHING)}  # fmt: skip
LIST = {"Action": "ListUsers", "Version": "2010-05-08"}
KEYS_OF = {"Action": "ListAccessKeys", "Version": "2010-05-08"}


def assume_form(mallory, **more):
    about = {"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": mallory.roles["open"], "RoleSessionName": "s1"}
    return {**about, **more}


def by_query(form):
    from urllib.parse import urlencode

    return f"/?{urlencode(form)}"


ASSUME = [allow("sts:AssumeRole")]
OPEN = f"arn:aws:iam::{ACCOUNT}:role/open"
EKS = [allow("eks:*"), deny("eks:*", CLUSTER)]
OWN = [allow("s3:*", ["arn:aws:s3:::mine", "arn:aws:s3:::mine/*"])]
IAM = [allow("iam:*"), deny("iam:*", f"arn:aws:iam::{ACCOUNT}:role/open")]
GET_ROLE = {"Action": "GetRole", "Version": "2010-05-08", "RoleName": "open"}
DESCRIBE = {"method": "GET", "path": "/clusters/runbook"}
ENTRIES = "Action=ListAccessEntries&name=runbook"

# Each attack: what mallory may do, the service of the scope, and the request.
ATTACKS = {
    "1 two Credentials and a free target": ([], "sts", lambda m: {
        "form": PUT_POLICY, "headers": CAPITAL, "unsigned": FREE, "change": first_credential(m.keys, "iam")}),
    "2 AssumeRole in the query, a free target": ([], "sts", lambda m: {
        "method": "GET", "path": by_query(assume_form(m)), "unsigned": FREE}),
    "2 AssumeRole in a form, a free target": ([], "sts", lambda m: {
        "form": assume_form(m), "headers": CAPITAL, "unsigned": FREE}),
    "3 a role that trusts a service alone": (ASSUME, "sts", lambda m: {
        "form": assume_form(m, RoleArn=m.roles["service"])}),
    "3 a role that does not exist": (ASSUME, "sts", lambda m: {
        "form": assume_form(m, RoleArn=f"arn:aws:iam::{ACCOUNT}:role/nosuch")}),
    "3 a role by a path with dots": (ASSUME, "sts", lambda m: {
        "form": assume_form(m, RoleArn=f"arn:aws:iam::{ACCOUNT}:role/x/../open")}),
    "3 a Deny of AssumeRole on the role": ([allow("sts:*"), deny("sts:AssumeRole", OPEN)],
        "sts", lambda m: {"form": assume_form(m)}),
    "4 a session name with a role in it": (ASSUME, "sts", lambda m: {
        "form": assume_form(m, RoleSessionName="s1:role/service")}),
    "5 a service in capitals: EKS": (EKS, "EKS", lambda m: DESCRIBE),
    "5 the region by Host": (EKS, "eks", lambda m: {
        **DESCRIBE, "host": "eks.us-east-1.amazonaws.com", "region": "eu-west-1"}),
    "5 two Credentials": (EKS, "eks", lambda m: {**DESCRIBE, "change": first_credential(m.keys, "eks")}),
    "5 tags of a denied cluster": (EKS, "eks", lambda m: {
        "method": "GET", "path": "/tags/arn%3Aaws%3Aeks%3Aus-east-1%3A123456789012%3Acluster%2Frunbook"}),
    "5 a service in capitals: IAM": (IAM, "IAM", lambda m: {"form": GET_ROLE}),
    "5 RoleName in the query": (IAM, "iam", lambda m: {
        "path": "/?RoleName=open", "form": {"Action": "GetRole", "Version": "2010-05-08"}}),
    "6 PUT as GetObject by target": ([allow("s3:GetObject")], "s3", lambda m: {
        "method": "PUT", "path": "/mine/k", "body": "x", "unsigned": {"X-Amz-Target": "x.GetObject"}}),
    "6 DELETE as GetObject by target": ([allow("s3:GetObject")], "s3", lambda m: {
        "method": "DELETE", "path": "/mine/k", "unsigned": {"X-Amz-Target": "x.GetObject"}}),
    "6 PUT as GetObject by form": ([allow("s3:GetObject")], "s3", lambda m: {
        "method": "PUT", "path": "/mine/k", "form": {"Action": "GetObject"}}),
    "6 entries as DescribeCluster": ([allow("eks:DescribeCluster")], "eks", lambda m: {
        "path": "/clusters/runbook/access-entries", "body": ENTRIES, "headers": CAPITAL,
        "unsigned": {"X-Amz-Target": "x.DescribeCluster"}}),
    "6 an action within a body of JSON": ([allow("eks:*"), deny("eks:DeleteCluster")], "eks", lambda m: {
        "path": "/clusters", "body": json.dumps({"name": "x&Action=DeleteCluster&name=runbook"}),
        "headers": {"Content-Type": "application/json"}}),
    "6 logs with a form's type": ([allow("logs:*"), deny("logs:DescribeLogGroups")], "logs", lambda m: {
        "body": "{}", "headers": FORM, "unsigned": {"X-Amz-Target": "Logs_20140328.DescribeLogGroups"}}),
    "6 a gzip body": ([allow("iam:*"), deny("iam:ListUsers")], "iam", lambda m: {
        "form": LIST, "headers": {"Content-Encoding": "gzip"}}),
    "6 an unsigned target": ([allow("logs:DescribeLogGroups")], "logs", lambda m: {
        "body": "{}", "unsigned": {"X-Amz-Target": "Logs_20140328.DescribeLogGroups"}}),
    "7 a bucket by Host": (OWN, "s3", lambda m: {
        "method": "PUT", "path": "/mine/evil", "body": "x", "host": "secret.s3.amazonaws.com"}),
    "7 a copy of another's object": (OWN, "s3", lambda m: {
        "method": "PUT", "path": "/mine/stolen", "headers": {"x-amz-copy-source": "/secret/k"}}),
    "7 DeleteObjects beyond the allowed keys": ([allow("s3:DeleteObject", "arn:aws:s3:::mine")], "s3", lambda m: {
        "path": "/mine?delete", "body": "<Delete><Object><Key>k</Key></Object></Delete>"}),
    "8 a Deny on the caller's own user": ([allow("iam:*"), deny("iam:*", f"arn:aws:iam::{ACCOUNT}:user/mallory")],
        "iam", lambda m: {"form": KEYS_OF}),
    "8 NotResource": ([{"Effect": "Allow", "Action": "iam:*", "NotResource": f"arn:aws:iam::{ACCOUNT}:user/admin"}],
        "iam", lambda m: {"form": {**KEYS_OF, "UserName": "admin"}}),
    "8 a Deny with a variable": ([allow("iam:*"), {**deny("iam:*"), "Resource": "arn:aws:iam::*:user/${aws:username}"}],
        "iam", lambda m: {"form": KEYS_OF}),
    "8 a Deny, no resource named": ([allow("ec2:*"), deny("ec2:*", "arn:aws:ec2:*:*:vpc/*")], "ec2", lambda m: {
        "form": {"Action": "DescribeVpcs", "Version": "2016-11-15"}}),
    "12 a signed header that was not sent": ([EVERYTHING], "sts", lambda m: {
        "form": {"Action": "GetCallerIdentity", "Version": "2011-06-15"},
        "change": lambda header: header.replace("SignedHeaders=", "SignedHeaders=AKIAADMINADMINADMINA;")}),
    "a parameter twice": ([EVERYTHING], "iam", lambda m: {
        "body": "Action=ListUsers&Action=GetUser&Version=2010-05-08", "headers": FORM}),
    "an unknown parameter": ([EVERYTHING], "iam", lambda m: {"form": {**LIST, "Who": "me"}}),
    "no action": ([EVERYTHING], "iam", lambda m: {"form": {"Version": "2010-05-08"}}),
    "a member of JSON twice": ([EVERYTHING], "logs", lambda m: {
        "body": '{"limit": 1, "limit": 2}', "headers": {"X-Amz-Target": "Logs_20140328.DescribeLogGroups"}}),
    "an unsigned header that decides": (OWN, "s3", lambda m: {
        "method": "PUT", "path": "/mine/k2", "body": "x", "unsigned": {"x-amz-copy-source": "/mine/k"}}),
    "a service that nothing enforces": ([EVERYTHING], "cloudformation", lambda m: {
        "form": {"Action": "ListStacks", "Version": "2010-05-15"}}),
    "15 a boundary that nothing enforces": ([EVERYTHING], "iam", lambda m: {"form": {
        "Action": "CreateUser", "Version": "2010-05-08", "UserName": "bound",
        "PermissionsBoundary": "arn:aws:iam::aws:policy/ReadOnlyAccess"}}),
    "3 tags of a session that nothing enforces": (ASSUME, "sts", lambda m: {
        "form": assume_form(m, **{"Tags.member.1.Key": "a", "Tags.member.1.Value": "b"})}),
    "7 a bucket with a slash in its name": (OWN, "s3", lambda m: {"method": "GET", "path": "/mine%2f?list-type=2"}),
    "a bucket with moto's own name": ([EVERYTHING], "s3", lambda m: {"method": "GET", "path": "/moto-api/data.json"}),
    "23 the overview by a name of another": ([EVERYTHING], "eks", lambda m: {
        "method": "GET", "path": "/_sandbox/clusters", "host": "rebound.example"}),
    "an ACL that nothing enforces": ([EVERYTHING], "s3", lambda m: {
        "method": "PUT", "path": "/mine/k3", "body": "x", "headers": {"x-amz-acl": "public-read"}}),
}  # fmt: skip


def test_each_attack_is_refused(mallory, record_property):
    mallory.world.cluster()
    table = {}
    for attack, (rights, service, request) in ATTACKS.items():
        mallory.may(*(rights or [deny("none:*")]))
        table[attack] = mallory.send(service, **request(mallory))
    record_property("attack x refused", json.dumps(table))
    assert {attack: status for attack, status in table.items() if not 400 <= status < 600 or status == 500} == {}
    assert mallory.iam.list_user_policies(UserName="mallory")["PolicyNames"] == ["p"]
    assert [one["Key"] for one in mallory.s3.list_objects_v2(Bucket="mine")["Contents"]] == ["k"]
    assert mallory.s3.get_object(Bucket="mine", Key="k")["Body"].read() == b"TOPSECRET"
    assert mallory.world.client("eks").describe_cluster(name="runbook")


def test_the_same_requests_pass_with_the_rights_for_them(mallory):
    """The table above proves something only if its plain forms work."""
    mallory.world.cluster()
    mallory.may(EVERYTHING)
    plain = {
        "iam": [{"form": LIST}, {"form": KEYS_OF}, {"form": GET_ROLE}],
        "sts": [{"form": assume_form(mallory)}],
        "eks": [DESCRIBE, {"method": "GET", "path": "/clusters/runbook/access-entries"}],
        "s3": [{"method": "PUT", "path": "/mine/copy", "headers": {"x-amz-copy-source": "/secret/k"}},
               {"method": "GET", "path": "/mine/k"},
               {"path": "/mine?delete", "body": "<Delete><Object><Key>copy</Key></Object></Delete>"}],
        "logs": [{"body": "{}", "headers": {"X-Amz-Target": "Logs_20140328.DescribeLogGroups"}}],
        "ec2": [{"form": {"Action": "DescribeVpcs", "Version": "2016-11-15"}}],
    }  # fmt: skip
    found = [(service, one, mallory.send(service, **one)) for service, ones in plain.items() for one in ones]
    assert [one for one in found if one[2] != 200] == []


def test_a_user_agent_does_not_move_a_call_to_another_region(mallory):
    mallory.world.cluster()
    mallory.may(*EKS)
    status = mallory.send("eks", **DESCRIBE, region="eu-west-1", unsigned={"User-Agent": "x region/us-east-1"})
    assert status == 404  # there is no such cluster in eu-west-1


def test_a_sessions_policies_take_rights_away_and_give_none(mallory, refusal):
    mallory.may(*ASSUME)
    users = lambda session: mallory.world.client("iam", session).list_users  # noqa: E731
    assert users(mallory.assume())()["Users"]
    for session in (
        mallory.assume(Policy=document(deny("*"))),
        mallory.assume(Policy=document(allow("ec2:*"))),
        mallory.assume(PolicyArns=[{"arn": "arn:aws:iam::aws:policy/AmazonEC2ReadOnlyAccess"}]),
    ):
        assert refusal(users(session))[:2] == (403, "AccessDenied")
    mallory.iam.put_role_policy(RoleName="open", PolicyName="p", PolicyDocument=document(allow("ec2:*")))
    assert refusal(users(mallory.assume(Policy=document(EVERYTHING))))[:2] == (403, "AccessDenied")


def test_a_session_ends_with_its_role(mallory, refusal):
    mallory.may(*ASSUME)
    session = mallory.assume()
    mallory.iam.delete_role_policy(RoleName="open", PolicyName="p")
    mallory.iam.delete_role(RoleName="open")
    mallory.iam.create_role(RoleName="open", AssumeRolePolicyDocument=trusts({"AWS": ACCOUNT}))
    mallory.iam.put_role_policy(RoleName="open", PolicyName="p", PolicyDocument=document(EVERYTHING))
    assert refusal(mallory.world.client("iam", session).list_users)[:2] == (403, "InvalidClientTokenId")


def test_a_trust_policy_and_the_callers_policies_decide_who_assumes_a_role(mallory, refusal):
    me = f"arn:aws:iam::{ACCOUNT}:user/mallory"
    cases = [  # the trust policy's statements, mallory's rights, whether AssumeRole passes
        ([{"AWS": me}], [], True),  # names the caller: that suffices
        ([{"AWS": f"arn:aws:iam::{ACCOUNT}:root"}], [], False),
        (
            [{"AWS": f"arn:aws:iam::{ACCOUNT}:root"}],
            [allow("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/open")],
            True,
        ),
        ([{"AWS": me}], [deny("sts:*")], False),
        ([{"AWS": "210987654321"}], [EVERYTHING], False),
        ([{"Service": "ec2.amazonaws.com"}], [EVERYTHING], False),
    ]
    sts, asked = mallory.world.client("sts", session_of(mallory)), {"RoleArn": OPEN, "RoleSessionName": "s1"}
    for principals, rights, passes in cases:
        mallory.may(*(rights or [deny("none:*")]))
        statements = [{"Effect": "Allow", "Principal": one, "Action": "sts:AssumeRole"} for one in principals]
        mallory.iam.update_assume_role_policy(RoleName="open", PolicyDocument=document(*statements))
        if passes:
            assert mallory.assume()
        else:
            assert refusal(sts.assume_role, **asked)[:2] == (403, "AccessDenied")
    condition = {"StringEquals": {"STS:ExternalID": "word"}}
    trust = {"Effect": "Allow", "Principal": {"AWS": me}, "Action": "sts:AssumeRole", "Condition": condition}
    mallory.iam.update_assume_role_policy(RoleName="open", PolicyDocument=document(trust))
    mallory.may(allow("sts:*"))
    assert mallory.assume(ExternalId="word")
    assert refusal(sts.assume_role, **asked)[0] == 403


def session_of(mallory):
    return boto3.Session(mallory.keys.access_key, mallory.keys.secret_key, None, "us-east-1")


def test_a_role_is_passed_only_with_permission_whichever_service_gets_it(mallory, refusal):
    iam, ec2 = (mallory.world.client(name, session_of(mallory)) for name in ("iam", "ec2"))
    mallory.may(allow("iam:*"), deny("iam:PassRole"), allow("ec2:*"), allow("logs:*"))
    iam.create_instance_profile(InstanceProfileName="p")
    adding = {"InstanceProfileName": "p", "RoleName": "open"}
    assert "iam:PassRole" in refusal(iam.add_role_to_instance_profile, **adding)[2]
    mallory.iam.add_role_to_instance_profile(**adding)
    about = {"ImageId": "ami-12345678", "MinCount": 1, "MaxCount": 1, "IamInstanceProfile": {"Name": "p"}}
    assert "iam:PassRole" in refusal(ec2.run_instances, **about)[2]
    logs = mallory.world.client("logs", session_of(mallory))
    destination = {"destinationName": "d", "targetArn": "arn:aws:kinesis:us-east-1:1:stream/s"}
    assert "iam:PassRole" in refusal(logs.put_destination, **destination, roleArn=mallory.roles["open"])[2]
    mallory.iam.remove_role_from_instance_profile(**adding)
    mallory.iam.delete_instance_profile(InstanceProfileName="p")


def test_an_unsigned_or_silent_body_is_not_waited_for(world):
    import http.client

    def status(headers):
        connection = http.client.HTTPConnection("127.0.0.1", world.server.port, timeout=5)
        connection.putrequest("POST", "/")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status

    assert status({"Content-Length": "8388608"}) == 403  # refused by its headers; nothing was sent
    method, _, _, headers = signed(Credentials(*world.session.get_credentials().get_frozen_credentials()[:2]), "iam",
                                   f"127.0.0.1:{world.server.port}", form=LIST)  # fmt: skip
    for length in ("-1", "abc", "999999999", "99999999999999"):
        assert status({**headers, "Content-Length": length}) == 403


TABLE = f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/locks"
GROUP = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:secret"


def test_another_name_of_a_denied_resource_is_denied_too(mallory, refusal):
    admin = mallory.world.client
    schema = {"KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}], "BillingMode": "PAY_PER_REQUEST",
              "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}]}  # fmt: skip
    admin("dynamodb").create_table(TableName="locks", **schema)
    admin("logs").create_log_group(logGroupName="secret")
    key = admin("kms").create_key()["KeyMetadata"]["Arn"]
    other = key.replace("us-east-1", "eu-west-1")
    mallory.may(EVERYTHING, *(deny("*", one) for one in (TABLE, f"{GROUP}:*", key)))
    dynamodb, logs, kms = (admin(one, session_of(mallory)) for one in ("dynamodb", "logs", "kms"))
    for call, values in (
        (dynamodb.describe_table, {"TableName": "locks"}), (dynamodb.describe_table, {"TableName": TABLE}),
        (logs.delete_log_group, {"logGroupName": "secret"}), (kms.describe_key, {"KeyId": key}),
        (kms.describe_key, {"KeyId": other}), (kms.describe_key, {"KeyId": key.rpartition("/")[2]}),
    ):  # fmt: skip
        assert refusal(call, **values)[:2] == (403, "AccessDeniedException"), values
    mallory.may(allow("*"))
    assert dynamodb.describe_table(TableName=TABLE) and kms.describe_key(KeyId=other)
    mallory.may(allow("logs:*", f"{GROUP}:*"))
    logs.delete_log_group(logGroupName="secret")
    admin("dynamodb").delete_table(TableName="locks")
    admin("kms").schedule_key_deletion(KeyId=key.rpartition("/")[2])


def test_a_name_in_the_form_of_an_arn_is_no_other_resource(mallory, refusal):
    """S3 takes any key, and DynamoDB alone takes an ARN for a name."""
    mallory.may(EVERYTHING, deny("*", "arn:aws:s3:::secret/*"), deny("logs:*", f"{GROUP.rpartition(':')[0]}:*"))
    s3, logs = (mallory.world.client(one, session_of(mallory)) for one in ("s3", "logs"))
    other = f"arn:aws:iam::{ACCOUNT}:user/mallory"
    assert refusal(s3.put_object, Bucket="secret", Key=other, Body=b"x")[:2] == (403, "AccessDenied")
    assert refusal(logs.create_log_group, logGroupName=other)[:2] == (403, "AccessDeniedException")
    s3.put_object(Bucket="mine", Key=other, Body=b"x")


def test_a_user_is_renamed_only_with_the_permission_on_the_new_name(mallory, refusal):
    mallory.may(allow("iam:*", f"arn:aws:iam::{ACCOUNT}:user/mallory"))
    iam = mallory.world.client("iam", session_of(mallory))
    for new in ({"NewUserName": "boss"}, {"NewPath": "/bosses/"}):
        assert refusal(iam.update_user, UserName="mallory", **new)[:2] == (403, "AccessDenied")


def test_a_renamed_user_keeps_the_path_for_which_the_permission_counts(mallory, refusal):
    user = f"arn:aws:iam::{ACCOUNT}:user"
    mallory.iam.create_user(UserName="eva", Path="/team/")
    iam = mallory.world.client("iam", session_of(mallory))
    mallory.may(allow("iam:*", [f"{user}/team/eva", f"{user}/boss"]))
    assert refusal(iam.update_user, UserName="eva", NewUserName="boss")[:2] == (403, "AccessDenied")
    mallory.may(allow("iam:*", [f"{user}/team/eva", f"{user}/team/boss"]))
    iam.update_user(UserName="eva", NewUserName="boss")
    mallory.iam.delete_user(UserName="boss")
