"""The paths of Envoy and of Project Wycheproof's test vectors, for `make vectors`; fetched if missing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from sandbox.build.builder import BuildFailed, build
from sandbox.paths import HOME

MODULE = Path(__file__).with_name("vectors")  # go.mod names the version, go.sum its hash; git has no vectors
FOLDER = "testvectors_v1"


def paths(tell: Callable[[str], None]) -> dict[str, str]:
    """Return the paths of the program `envoy` and of the folder `vectors`. Raises BuildFailed."""
    built = build(tell, only=("go", "envoy"))
    vectors = download((built["go"] / "go").resolve()) / FOLDER
    if not vectors.is_dir():
        raise BuildFailed(f"expected the folder {FOLDER} in the vectors' module, got none at {vectors}.")
    return {"envoy": str(built["envoy"] / "envoy"), "vectors": str(vectors)}


def download(go: Path) -> Path:
    """Return the module's folder in the module cache, which Go fills and checks against go.sum. Raises BuildFailed."""
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    environment |= {"GOMODCACHE": str(HOME / "go" / "mod"), "GOCACHE": str(HOME / "go" / "build")}
    command = [str(go), "mod", "download", "-json"]
    done = subprocess.run(
        command, cwd=MODULE, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        message = (done.stderr or done.stdout).strip().partition("\n")[0] or "no output"
        raise BuildFailed(f"expected Go to fetch the test vectors, got: {message}")
    return Path(json.loads(done.stdout)["Dir"])
