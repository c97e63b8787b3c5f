"""What the modules of the EKS API share: moto's REST layer with the sandbox's clusters, one lock, pages and refusals.

The name of an operation's page follows https://docs.aws.amazon.com/eks/latest/APIReference/, as in API_CreateCluster.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, NoReturn, cast

from moto.core.responses import ActionResult
from moto.eks.exceptions import InvalidParameterException
from moto.eks.responses import EKSResponse

from sandbox.eks.clusters import Clusters
from sandbox.eks.models import EksCluster, EksNodegroup
from sandbox.iam.trust_policies import trusted

if TYPE_CHECKING:
    from moto.ec2.models import EC2Backend

PAGE = 100  # the default and the maximum of maxResults: API_ListClusters


class EksBaseApi(EKSResponse):
    """moto's EKSResponse, from which every module of the API derives its operations."""

    clusters: Clusters
    lock = threading.RLock()  # moto checks a name, then takes it: two calls at once must not both find it free

    def _cluster(self) -> EksCluster:
        """Return the cluster that the path names; moto refuses an unknown name as EKS does."""
        return cast(EksCluster, self.eks_backend.describe_cluster(self._get_param("name")))

    def _all_clusters(self) -> list[EksCluster]:
        return cast("list[EksCluster]", list(self.eks_backend.clusters.values()))

    def _page(self, key: str, items: list, more: dict | None = None) -> ActionResult:
        """Return one page of a list under `key`; nextToken is the index at which the next page begins."""
        start, count = int(self._get_param("nextToken") or 0), self._get_int_param("maxResults", PAGE)
        end = start + count
        token = {"nextToken": str(end)} if end < len(items) else {}
        return ActionResult({**(more or {}), key: items[start:end], **token})

    def _is_repeat(self, existing: EksCluster | EksNodegroup) -> bool:
        """Return whether the client sends the call again that made `existing`, because it lost the answer."""
        request = json.loads(self.body)
        token = request.get("clientRequestToken")
        if not token or token != existing.request.get("clientRequestToken"):
            return False
        if request != existing.request:
            self._refuse("expected the parameters that this clientRequestToken came with first, got others.")
        return True

    def _check_trust(self, role_arn: str, service: str, refusal: str) -> None:
        if not any(service in services for services, _ in trusted(role_arn)):
            self._refuse(refusal.format(role_arn))

    def _ec2(self) -> EC2Backend:
        from moto.ec2.models import ec2_backends  # takes a second, and the start does not need it

        return ec2_backends[self.current_account][self.region]

    def _refuse(self, message: str) -> NoReturn:
        raise InvalidParameterException(clusterName=self._get_param("name"), message=message)
