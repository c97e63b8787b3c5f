"""The access entries of one cluster, as EKS's authenticator and authorizer read them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from moto.core.utils import utcnow

from sandbox.eks import access_policies
from sandbox.iam.sigv4 import Identity, Refused

CONFIG_MAP = "CONFIG_MAP"  # the mode without entries: only the creator gets in, the sandbox ignores aws-auth
STANDARD, NODES = "STANDARD", "EC2_LINUX"
CANONICAL_ARN = "canonicalArn"  # aws-iam-authenticator reports the principal under this key of the user's extra


class AccessEntries:
    """The access entries of one cluster. Its creator gets one that allows everything, unless the cluster opts out.

    Args:
        cluster: the cluster's name.
        cluster_arn: its ARN.
        mode: API, API_AND_CONFIG_MAP or CONFIG_MAP.
        administrator: the creator, or None for a cluster that opts out.
    """

    def __init__(self, cluster: str, cluster_arn: str, mode: str, administrator: Identity | None) -> None:
        self.cluster, self.arn, self.mode = cluster, cluster_arn.replace(":cluster/", ":access-entry/"), mode
        self.entries: dict[str, dict] = {}
        self._master = _unique(administrator) if administrator and mode == CONFIG_MAP else None
        if administrator and mode != CONFIG_MAP:
            self.add(administrator.principal, _unique(administrator))
            self.associate(administrator.principal, "AmazonEKSClusterAdminPolicy", {"type": "cluster"})

    def add(
        self,
        principal: str,
        unique: str,
        groups: Iterable[str] = (),
        username: str = "",
        kind: str = STANDARD,
        tags: dict | None = None,
    ) -> dict:
        """Add an entry for a principal; return the entry as API_AccessEntry has it, with policies and unique id.

        Args:
            principal: its ARN.
            unique: its unique id in IAM: a later principal with this ARN does not get the entry's rights.
            groups: Kubernetes groups.
            username: Kubernetes' name of the user; by default EKS's.
            kind: STANDARD or NODES.
            tags: of the entry.
        """
        account, name = principal.split(":")[4], re.split("[:/]", principal)[-1]
        entry = {
            "clusterName": self.cluster,
            "principalArn": principal,
            "kubernetesGroups": list(groups),
            "accessEntryArn": f"{self.arn}/{principal.split(':')[5].split('/')[0]}/{account}/{name}/1",
            "createdAt": utcnow(),
            "modifiedAt": utcnow(),
            "tags": tags or {},
            "type": kind,
            "username": username or _username(principal),
            "policies": {},
            "unique": unique,
        }
        self.entries[principal] = entry
        return entry

    def associate(self, principal: str, policy: str, scope: dict) -> dict:
        """Give an entry a policy in a scope, or change the scope; return the association."""
        policies, now = self.entries[principal]["policies"], utcnow()
        since = policies[policy]["associatedAt"] if policy in policies else now
        arn, scope = access_policies.PREFIX + policy, {"namespaces": [], **scope}
        policies[policy] = {"policyArn": arn, "accessScope": scope, "associatedAt": since, "modifiedAt": now}
        return policies[policy]

    def user(self, identity: Identity) -> dict:
        """Return the Kubernetes user of an identity. Raises Refused for an identity without an entry.

        Source: name, uid and extra are as in aws-iam-authenticator, pkg/server/server.go.
        """
        entry, session = self._entry_of(identity.principal), identity.arn.rpartition("/")[2]
        if _unique(identity) == self._master:
            name, groups = identity.arn, ["system:masters"]
        elif entry is None:
            raise Refused(
                f"expected a principal with an access entry of the cluster {self.cluster}, "
                f"got {identity.arn}, who has none."
            )
        elif entry["unique"] != _unique(identity):
            raise Refused(
                f"expected the principal that the access entry of {entry['principalArn']} was made for, "
                "got a later one of the same name; delete the entry and create it again."
            )
        elif entry["type"] != STANDARD:
            raise Refused(f"expected an access entry of the type {STANDARD}, got {entry['type']}, which is for nodes.")
        else:
            name, groups = _filled(entry["username"], session), list(entry["kubernetesGroups"])
        uid = f"aws-iam-authenticator:{identity.account}:{_unique(identity)}"
        canonical = entry["principalArn"] if entry else identity.principal
        return {
            "username": name, "uid": uid, "groups": groups,
            "extra": {"arn": [identity.arn], CANONICAL_ARN: [canonical]},
        }  # fmt: skip

    def _entry_of(self, principal: str) -> dict | None:
        """Return the principal's entry. The ARN of a role's session lacks the role's path, which the entry has."""
        return next((entry for arn, entry in list(self.entries.items()) if _without_path(arn) == principal), None)

    def allows(self, spec: Mapping) -> bool:
        """Return whether the caller's access policies allow the spec of a SubjectAccessReview; RBAC comes before."""
        principal = (spec.get("extra", {}).get(CANONICAL_ARN) or [""])[0]
        entry = self.entries.get(principal, {"policies": {}})
        granted = [(name, policy["accessScope"]) for name, policy in list(entry["policies"].items())]
        return access_policies.allows(granted, spec)


def _unique(identity: Identity) -> str:
    """Return the unique id of the user or role in IAM; a session has its role's."""
    return identity.user_id.partition(":")[0]


def _filled(username: str, session: str) -> str:
    """Source: aws-iam-authenticator, README, "What are the available templates": SessionName has - for @."""
    return username.replace("{{SessionNameRaw}}", session).replace("{{SessionName}}", session.replace("@", "-"))


def _without_path(principal: str) -> str:
    kind, _, role = principal.partition(":role/")
    return f"{kind}:role/{role.rpartition('/')[2]}" if role else principal


def _username(principal: str) -> str:
    """Return EKS's default user name: the ARN, for a role the ARN of its sessions. Source: API_CreateAccessEntry."""
    kind, _, role = principal.partition(":role/")
    sessions = f"{kind.replace(':iam:', ':sts:')}:assumed-role/{role.rpartition('/')[2]}/{{{{SessionName}}}}"
    return sessions if role else principal
