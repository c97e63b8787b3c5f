"""`python -m lib why` starts fast: it imports nothing that one request does not need."""

import subprocess
import sys

from lib.params import ROOT

HEAVY = ("pandas", "boto3", "IPython", "nbconvert", "papermill", "kubernetes.client.api.core_v1_api")
SCRIPT = f"""
import sys
import lib.__main__, lib.diagnose, lib.params, lib.record.events, lib.run
print([name for name in {HEAVY} if name in sys.modules])
"""


def test_the_command_imports_no_heavy_package():
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
