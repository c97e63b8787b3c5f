"""A law: the evaluation of policies agrees with a second evaluator, written from AWS's rules alone, on random policies.

LAW_POLICIES sets the number of decisions: 3000, and more for a longer search.
"""

import json
import os
import random

from sandbox.iam.policy_evaluation import ALLOWED, DENIED, NOT_ALLOWED, UNKNOWN, decide

COUNT = int(os.environ.get("LAW_POLICIES", "3000"))
ACTIONS = ["s3:GetObject", "s3:PutObject", "iam:PassRole", "iam:ListUsers", "eks:DescribeCluster"]
ARNS = ["arn:aws:s3:::mine/k", "arn:aws:s3:::mine", "arn:aws:iam::1:role/a", "arn:aws:iam::1:user/ann", UNKNOWN]
ACTION_PATTERNS = ["*", "s3:*", "S3:getobject", "iam:*Role", "iam:?istUsers", "eks:Desc*", "none:*", "s3:Get*ct"]
ARN_PATTERNS = [
    "*", "**", "arn:aws:s3:::mine/*", "arn:aws:s3:::m?ne", "arn:aws:iam::*:role/*",
    "arn:aws:iam::1:user/${aws:username}",
    "arn:*", "arn:aws:s3:::${aws:nobody}/*", "arn:aws:iam::1:user/${AWS:UserName}", "*k", "?",
]  # fmt: skip
CONTEXT = {"aws:RequestedRegion": "us-east-1", "aws:username": "ann", "iam:PassedToService": "eks.amazonaws.com"}
KEYS = ["aws:RequestedRegion", "AWS:requestedregion", "aws:username", "iam:PassedToService", "aws:Nobody"]
VALUES = ["us-east-1", "us-*", "ann", "a?n", "eks.amazonaws.com", "${aws:username}", "${aws:nobody}", "x"]
OPERATORS = ["StringEquals", "StringLike", "ArnLike", "StringEqualsIfExists", "StringLikeIfExists", "DateLessThan"]


def like(pattern, text):
    """Whether a text has the form of a pattern, by recursion on its first character."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return like(pattern[1:], text) or (bool(text) and like(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and like(pattern[1:], text[1:])


class Unknowable(Exception):
    """A part of a statement that the sandbox does not know."""


def filled(pattern, version):
    """The pattern with its variable, which only policies of 2012 have."""
    if version != "2012-10-17" or "${" not in pattern:
        return pattern
    before, _, rest = pattern.partition("${")
    name, _, after = rest.partition("}")
    values = {key.lower(): value for key, value in CONTEXT.items()}
    if name.lower() not in values:
        raise Unknowable
    return before + values[name.lower()] + after


def about_resource(statement, resource, version):
    denies = statement["Effect"] == "Deny"
    named, excepted = statement.get("Resource"), statement.get("NotResource")
    patterns = [filled(one, version) for one in (named or excepted)]
    whole = any(set(one) == {"*"} for one in patterns)
    if resource == UNKNOWN:
        return (denies or whole) if named else (denies and not whole)
    return any(like(one, resource) for one in patterns) == bool(named)


def about_conditions(statement, version):
    values = {key.lower(): value for key, value in CONTEXT.items()}
    for operator, pairs in statement.get("Condition", {}).items():
        for key, patterns in pairs.items():
            value, plain = values.get(key.lower()), operator.replace("IfExists", "")
            filled_in = [filled(one, version) for one in patterns]
            if plain == "DateLessThan" or (value is None and plain == operator):
                if statement["Effect"] == "Allow":
                    return False
                continue
            if value is None:
                continue
            equal = (lambda one, v=value: one == v) if plain == "StringEquals" else (lambda one, v=value: like(one, v))
            if not any(equal(one) for one in filled_in):
                return False
    return True


def second(policies, action, resource):
    """The decision, statement by statement."""
    effects = set()
    for policy in policies:
        version = policy.get("Version", "2008-10-17")
        for statement in policy["Statement"]:
            key = "Action" if "Action" in statement else "NotAction"
            if any(like(one.lower(), action.lower()) for one in statement[key]) != (key == "Action"):
                continue
            variables = json.dumps(
                {k: v for k, v in statement.items() if k in ("Resource", "NotResource", "Condition")}
            )
            try:
                for part in variables.split("${")[1:]:
                    filled("${" + part, version)
                concerned = about_resource(statement, resource, version) and about_conditions(statement, version)
            except Unknowable:
                concerned = statement["Effect"] == "Deny"
            if concerned:
                effects.add(statement["Effect"])
    return DENIED if "Deny" in effects else ALLOWED if "Allow" in effects else NOT_ALLOWED


def random_policy(chance):
    def statement():
        made = {"Effect": chance.choice(["Allow", "Allow", "Deny"])}
        made[chance.choice(["Action"] * 4 + ["NotAction"])] = chance.sample(ACTION_PATTERNS, chance.choice([1, 1, 2]))
        made[chance.choice(["Resource"] * 3 + ["NotResource"])] = chance.sample(ARN_PATTERNS, chance.choice([1, 1, 2]))
        if chance.random() < 0.4:
            values = chance.sample(VALUES, chance.choice([1, 2]))
            made["Condition"] = {chance.choice(OPERATORS): {chance.choice(KEYS): values}}
        return made

    version = {"Version": "2012-10-17"} if chance.random() < 0.8 else {}
    return {**version, "Statement": [statement() for _ in range(chance.choice([1, 1, 2, 3]))]}


def test_two_evaluators_agree_on_random_policies():
    chance, counts, differences = random.Random(1), {ALLOWED: 0, DENIED: 0, NOT_ALLOWED: 0}, []
    for _ in range(COUNT):
        policies = [random_policy(chance) for _ in range(chance.choice([1, 1, 2]))]
        action, resource = chance.choice(ACTIONS), chance.choice(ARNS)
        found = decide([json.dumps(one) for one in policies], action, resource, CONTEXT)
        counts[found] += 1
        if found != second(policies, action, resource):
            differences.append((found, second(policies, action, resource), policies, action, resource))
    assert differences == []
    assert min(counts.values()) > COUNT / 20
