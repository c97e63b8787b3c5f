"""A pod's service account: who this process is in a pod without a kubeconfig, as for kubectl.

Source: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kubernetes.config import incluster_config

AUTHORITY = Path(incluster_config.SERVICE_CERT_FILENAME)  # the certificate of the CA that signs the API server's


def is_used(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is in a pod, and neither KUBECONFIG nor ~/.kube/config is there."""
    in_pod = bool(environment.get(incluster_config.SERVICE_HOST_ENV_NAME))
    return in_pod and not environment.get("KUBECONFIG") and not Path("~/.kube/config").expanduser().is_file()
