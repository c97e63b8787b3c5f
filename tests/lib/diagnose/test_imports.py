"""Commands start fast: `python -m lib why` and those that read files import nothing that they do not need."""

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


FILES = """
import sys
import lib.params, lib.legacy.__main__
print([name for name in ("kubernetes", "requests", "pandas") if name in sys.modules])
import lib.probes.__main__
print("pandas" in sys.modules)
"""


def test_the_params_and_legacy_import_no_client_of_kubernetes_and_the_probes_no_pandas():
    done = subprocess.run([sys.executable, "-c", FILES], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]
