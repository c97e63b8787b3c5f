"""Create .venv from requirements.lock, unless it is up to date. Needs only Python, without pip."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
MARK = VENV / ".made-from"
HOME = Path(os.environ.get("EKS_SANDBOX_HOME") or Path.home() / ".cache" / "eks-sandbox")


def main() -> int:
    """Create the environment; return the exit code."""
    wanted = hashlib.sha256(LOCK.read_bytes() + str(ROOT).encode()).hexdigest()
    whole = (VENV / "bin" / "python").exists()  # a link, which dangles if the machine's Python was replaced
    if whole and MARK.is_file() and MARK.read_text() == wanted:
        return 0
    print(f"Python environment: {VENV}", flush=True)
    try:
        make(wanted)
    except (subprocess.CalledProcessError, OSError) as problem:
        print(
            f"environment: {VENV} was not created: {problem}. Remove the cause and run the command again.",
            file=sys.stderr,
        )
        return 2
    return 0


def make(wanted: str) -> None:
    """Create .venv with uv. The mark is written last: without it, the next call creates .venv again."""
    uv = find_uv()
    shutil.rmtree(VENV, ignore_errors=True)
    run(uv, "venv", "--quiet", "--python", ">=3.11", str(VENV))
    run(uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(VENV / "bin" / "python"), str(LOCK))
    for site in VENV.glob("lib/python*/site-packages"):
        (site / "project.pth").write_text(f"{ROOT}\n")  # makes lib and sandbox importable from every folder
    MARK.write_text(wanted)


def find_uv() -> str:
    """Return the path of uv: from PATH, else from the cache folder, where it is installed on first use."""
    if there := shutil.which("uv"):
        return there
    own = HOME / "uv"
    if not (own / "bin" / "uv").exists():
        shutil.rmtree(own, ignore_errors=True)
        require_venv()
        run(sys.executable, "-m", "venv", str(own))
        options = ["--quiet", "--disable-pip-version-check", "--require-hashes"]
        run(str(own / "bin" / "pip"), "install", *options, "-r", str(ROOT / "tools" / "uv.lock"))
    return str(own / "bin" / "uv")


def require_venv() -> None:
    """Install python3-venv if this Debian lacks it. Installed packages are not replaced."""
    if subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
        return
    if os.geteuid() or not shutil.which("apt-get"):
        raise OSError("python3 has no venv module; install python3-venv, or uv")
    run("apt-get", "-q", "update")
    run("apt-get", "-q", "install", "-y", "--no-install-recommends", "python3-venv")


def run(*command: str) -> None:
    """Run a command; its output goes to the terminal."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "UV_LINK_MODE": "copy"}
    environment.setdefault("UV_CACHE_DIR", str(HOME / "uv-cache"))
    environment.pop("VIRTUAL_ENV", None)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=environment)


if __name__ == "__main__":
    sys.exit(main())
