"""A headless Chromium for the tests of pages: screenshots, requested URLs, console warnings, accessibility."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from lib.login.chromium import QUIET

AUDIT = 400  # seconds that axe may take for a page: the largest took more than 120 beside another cluster
SHOTS = Path(os.environ.get("SCREENSHOTS") or Path(__file__).parents[2] / "outputs" / "screenshots")
PHONE, DESK = (390, 844), (1280, 900)


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Start a browser with its files under `profile`; it ends with the block."""
    options = webdriver.ChromeOptions()
    for flag in [
        *QUIET,
        "--no-sandbox",
        "--mute-audio",
        f"--user-data-dir={profile}",
        f"--window-size={DESK[0]},{DESK[1]}",
    ]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        driver.set_page_load_timeout(60)
        driver.set_script_timeout(AUDIT)
        driver.command_executor.client_config.timeout = AUDIT  # selenium's own wait for the driver: else 120 s
        yield driver
    finally:
        driver.quit()


def scheme(driver: webdriver.Chrome, dark: bool) -> None:
    """Set the user's preferred color scheme."""
    feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def screen(driver: webdriver.Chrome, size: tuple[int, int]) -> None:
    """Set the size of the screen, PHONE or DESK."""
    about = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", about)


def asked_for(driver: webdriver.Chrome) -> list[str]:
    """Return the URLs that were requested since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith(("chrome:", "data:"))]  # the browser's own first page


def complaints(driver: webdriver.Chrome) -> list[str]:
    """Return the console's warnings and errors since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


def violations(driver: webdriver.Chrome) -> list[str]:
    """Return the violations of WCAG 2.2 AA and of axe's best practices: the rule and the place."""
    found = Axe().run(driver, options={"resultTypes": ["violations"]})["violations"]
    return [f"{one['id']}: {node['target'][0]} {node['failureSummary']}" for one in found for node in one["nodes"]]


def shoot(driver: webdriver.Chrome, name: str, whole: bool = True) -> Path:
    """Save a screenshot of the page; return its path."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    reply = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": whole})
    path = SHOTS / f"{name}.png"
    path.write_bytes(base64.b64decode(reply["data"]))
    return path
