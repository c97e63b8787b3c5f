"""Who may do what in one cluster: its access entries, as EKS's authenticator and authorizer read them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from moto.core.utils import utcnow

from sandbox.eks import access_policies
from sandbox.iam.sigv4 import Identity, Refused

CONFIG_MAP = "CONFIG_MAP"  # the mode without entries: only the creator is let in, aws-auth is not read here
STANDARD, NODES = "STANDARD", "EC2_LINUX"
OWN = "canonicalArn"  # aws-iam-authenticator tells the principal under this name, beside the user's


class Access:
    """The access entries of one cluster; whoever made it has one that allows all, unless asked otherwise."""

    def __init__(self, cluster: str, cluster_arn: str, mode: str, administrator: Identity | None):
        self.cluster, self.arn, self.mode = cluster, cluster_arn.replace(":cluster/", ":access-entry/"), mode
        self.entries: dict[str, dict] = {}
        self._master = administrator.principal if administrator and mode == CONFIG_MAP else None
        if administrator and mode != CONFIG_MAP:
            self.add(administrator.principal)
            self.associate(administrator.principal, "AmazonEKSClusterAdminPolicy", {"type": "cluster"})

    def add(
        self, principal: str, groups=(), username: str = "", kind: str = STANDARD, tags: dict | None = None
    ) -> dict:
        """Add an entry; return it."""
        account, name = principal.split(":")[4], re.split("[:/]", principal)[-1]
        self.entries[principal] = {
            "clusterName": self.cluster, "principalArn": principal, "kubernetesGroups": list(groups),
            "accessEntryArn": f"{self.arn}/{principal.split(':')[5].split('/')[0]}/{account}/{name}/1",
            "createdAt": utcnow(), "modifiedAt": utcnow(), "tags": tags or {}, "type": kind,
            "username": username or _username(principal), "policies": {},
        }  # fmt: skip
        return self.entries[principal]

    def associate(self, principal: str, policy: str, scope: dict) -> dict:
        """Give an entry a policy in a scope, or another scope; return the association."""
        held = self.entries[principal]["policies"]
        began = held[policy]["associatedAt"] if policy in held else utcnow()
        whole = {"namespaces": [], **scope}
        arn = access_policies.PREFIX + policy
        held[policy] = {"policyArn": arn, "accessScope": whole, "associatedAt": began, "modifiedAt": utcnow()}
        return held[policy]

    def user(self, who: Identity) -> dict:
        """Return the Kubernetes user of an identity; raise Refused for who has no entry.

        Name, uid and what is told beside them are those of aws-iam-authenticator (pkg/server/server.go).
        """
        entry, session = self._entry_of(who.principal), who.arn.rpartition("/")[2]
        if who.principal == self._master:
            name, groups = who.arn, ["system:masters"]
        elif entry is None:
            raise Refused(
                f"expected somebody with an access entry of the cluster {self.cluster}, got {who.arn}, who has none."
            )
        elif entry["type"] != STANDARD:
            raise Refused(f"expected an access entry of the type {STANDARD}, got {entry['type']}, which is for nodes.")
        else:
            name, groups = entry["username"].replace("{{SessionName}}", session), list(entry["kubernetesGroups"])
        uid = f"aws-iam-authenticator:{who.account}:{who.user_id.partition(':')[0]}"
        own = entry["principalArn"] if entry else who.principal
        return {"username": name, "uid": uid, "groups": groups, "extra": {"arn": [who.arn], OWN: [own]}}

    def _entry_of(self, principal: str) -> dict | None:
        """A session of a role does not tell the role's path; its access entry has it."""
        return next((entry for arn, entry in list(self.entries.items()) if _without_path(arn) == principal), None)

    def allows(self, asked: Mapping) -> bool:
        """Say whether the access policies of who asks allow it: the spec of a SubjectAccessReview, after RBAC."""
        principal = (asked.get("extra", {}).get(OWN) or [""])[0]
        entry = self.entries.get(principal, {"policies": {}})
        granted = [(name, held["accessScope"]) for name, held in list(entry["policies"].items())]
        return access_policies.allows(granted, asked)


def _without_path(principal: str) -> str:
    kind, _, role = principal.partition(":role/")
    return f"{kind}:role/{role.rpartition('/')[2]}" if role else principal


def _username(principal: str) -> str:
    kind, _, role = principal.partition(":role/")
    return (
        f"{kind.replace(':iam:', ':sts:')}:assumed-role/{role.rpartition('/')[2]}/{{{{SessionName}}}}"
        if role
        else principal
    )
