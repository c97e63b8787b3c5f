"""Make sure that Chromium and its driver are there, for the tests that look at pages; installs Debian's where not."""

import os
import shutil
import subprocess
import sys

PACKAGES = {"chromium": "chromium", "chromedriver": "chromium-driver"}  # by the command that each brings


def main() -> int:
    """Install what is missing; return the exit code."""
    missing = [package for command, package in PACKAGES.items() if not shutil.which(command)]
    if not missing:
        return 0
    if os.geteuid() or not shutil.which("apt-get"):
        print(f"browser: expected {' and '.join(PACKAGES)} on PATH, got none; install them.", file=sys.stderr)
        return 2
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", "-q", *command], stdin=subprocess.DEVNULL, env=environment)
        if done.returncode:
            print(f"browser: expected apt-get to {command[0]}, got exit code {done.returncode}.", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
