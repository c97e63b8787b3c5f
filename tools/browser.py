"""Install Chromium, its driver and certutil for step 13 and the tests of pages, if missing; uses Debian's packages."""

import os
import shutil
import subprocess
import sys

PACKAGES = {
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "certutil": "libnss3-tools",
}  # package by command


def main() -> int:
    """Install the missing packages; return the exit code."""
    missing = [package for command, package in PACKAGES.items() if not shutil.which(command)]
    if not missing:
        return 0
    if os.geteuid() or not shutil.which("apt-get"):
        print(
            f"browser: {' and '.join(missing)} cannot be installed here. Install them and put them on PATH.",
            file=sys.stderr,
        )
        return 2
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", "-q", *command], stdin=subprocess.DEVNULL, env=environment)
        if done.returncode:
            print(
                f"browser: apt-get {command[0]} failed with exit code {done.returncode}. Look at its output above.",
                file=sys.stderr,
            )
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
