"""A headless Chromium that verifies certificates by the environment's authority, its files in a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

# Debian's package by command. certutil writes the authority into the database that Chromium reads on Linux
PACKAGES = {"chromium": "chromium", "chromedriver": "chromium-driver", "certutil": "libnss3-tools"}
SIZE = (900, 640)  # pixels
QUIET = (  # without a window, and without requests of its own
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-extensions",
)
LOGIN = (
    "--disable-features=PasswordLeakDetection,HttpsUpgrades",
    "--password-store=basic",
    f"--window-size={SIZE[0]},{SIZE[1]}",
)
PATIENCE = 60  # seconds that one page may take: beside another sandbox on two cores, 30 were not enough


def missing() -> str:
    """Return what to install on this machine; "" if Chromium can start."""
    packages = [package for command, package in PACKAGES.items() if not shutil.which(command)]
    return f"no Chromium to log in with: install {', '.join(packages)} (as root: make browser)" if packages else ""


class Chromium:
    """One browser with one profile. `driver` is Selenium's; `close` ends the browser and deletes its files."""

    def __init__(self, authorities: Iterable[Path]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="chromium-")
        home = Path(self._folder.name)
        _trust(home, authorities)
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's own sandbox does not work for root
        for flag in (*QUIET, *LOGIN, *root, f"--user-data-dir={home / 'profile'}"):
            options.add_argument(flag)
        service = Service(shutil.which("chromedriver"), env={**os.environ, "HOME": str(home)})
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_page_load_timeout(PATIENCE)

    def close(self) -> None:
        """End the browser; a second call does nothing."""
        self.driver.quit()
        self._folder.cleanup()


def _trust(home: Path, authorities: Iterable[Path]) -> None:
    """Write the authorities' certificates into a database of this browser alone."""
    folder = home / ".pki" / "nssdb"
    folder.mkdir(parents=True)
    database = f"sql:{folder}"
    subprocess.run(["certutil", "-N", "-d", database, "--empty-password"], check=True)
    found = [one for file in authorities for one in x509.load_pem_x509_certificates(file.read_bytes())]
    for number, one in enumerate(found):
        command = ["certutil", "-A", "-d", database, "-t", "C,,", "-n", f"authority {number}"]
        subprocess.run(command, input=one.public_bytes(Encoding.DER), check=True)
