"""Build what the sandbox runs (Go programs, Debian layers, Keycloak, images), each part once for its inputs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sandbox import layers
from sandbox.catalogue import images_of
from sandbox.home import BIN, HERE, HOME, LOGS, PARTS, VERSIONS, version
from sandbox.images import archive

GO_PROGRAMS = (
    "./kube",
    "./coredns",
    "./pause",
    "go.etcd.io/etcd/server/v3",
    "github.com/mccutchen/go-httpbin/v2/cmd/go-httpbin",
    "istio.io/istio/pilot/cmd/pilot-discovery",
    "istio.io/istio/pilot/cmd/pilot-agent",
    "istio.io/istio/istioctl/cmd/istioctl",
)
KUBE_NAMES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl")


class BuildFailed(Exception):
    """One sentence: which part failed, and where its log is."""


@dataclass(frozen=True)
class Part:
    """One thing to build: what it depends on, and how it is made in a fresh folder."""

    name: str
    inputs: str
    make: Callable[[Path, IO], None]
    needs: tuple[str, ...] = ()
    lane: str = "other"  # Go takes both cores for minutes: what else there is goes on beside it


def parts() -> list[Part]:
    """Return all parts in the order in which they can be built."""
    debian, keycloak = json.dumps(VERSIONS["debian"]), json.dumps(VERSIONS["keycloak"])
    code = layers.RECIPE
    return [
        Part("go", _read("locks/go.lock"), _go_toolchain, lane="go"),
        Part("programs", _go_inputs(), _programs, ("go",), lane="go"),
        Part("envoy", _read("locks/envoy.lock"), _envoy),
        Part("base", debian + layers.BASE + code, _base),
        Part("jre", debian + code, _debian_layer("openjdk-17-jre-headless"), ("base",)),
        Part("keycloak", keycloak + code + str(_KEYCLOAK_BUILD), _keycloak, ("base", "jre")),
        Part("postgres", debian + code + _POSTGRES, _debian_layer("postgresql-15", _POSTGRES), ("base",)),
        Part("node", debian + layers.NODE + code, _debian_layer(layers.NODE), ("base",)),
        Part(
            "images",
            _read("catalogue.py") + _read("images.py"),
            _images,
            ("programs", "envoy", "base", "jre", "keycloak", "postgres"),
        ),
    ]


def build(tell: Callable[[str], None] = print) -> dict[str, Path]:
    """Build what is missing, in parallel where it can be; return each part's folder. Raises BuildFailed."""
    wanted = parts()
    keys = _keys(wanted)
    folders = {part.name: PARTS / f"{part.name}-{keys[part.name]}" for part in wanted}
    LOGS.mkdir(parents=True, exist_ok=True)
    with (HOME / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [part for part in wanted if not folders[part.name].is_dir()]
        if missing:
            require_tools(missing)
            shutil.rmtree(PARTS / "tmp", ignore_errors=True)
            _Progress(missing, len(wanted), tell).run(folders)
            _drop_old(folders)
        _link_programs(folders["programs"])
    return folders


def _keys(wanted: list[Part]) -> dict[str, str]:
    keys: dict[str, str] = {}
    for part in wanted:
        text = "\n".join([part.inputs, *(keys[need] for need in part.needs)])
        keys[part.name] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return keys


class _Progress:
    """Runs the missing parts in two lanes and tells, for each, when it starts and how long it took."""

    def __init__(self, missing: list[Part], total: int, tell: Callable[[str], None]):
        self.missing, self.total, self.tell = missing, total, tell
        self.done = total - len(missing)
        self.lock, self.start = threading.Lock(), time.monotonic()

    def run(self, folders: dict[str, Path]) -> None:
        self.tell(f"Building {len(self.missing)} of {self.total} parts into {HOME} (logs: {LOGS})")
        futures: dict[str, Future] = {}
        with ThreadPoolExecutor(1) as go, ThreadPoolExecutor(1) as other:
            for part in self.missing:
                lane = go if part.lane == "go" else other
                needs = [futures[need] for need in part.needs if need in futures]
                futures[part.name] = lane.submit(self._one, part, needs, folders)
        for future in futures.values():
            future.result()

    def _one(self, part: Part, needs: list[Future], folders: dict[str, Path]) -> None:
        for need in needs:
            need.result()
        began, log = time.monotonic(), LOGS / f"build-{part.name}.log"
        self.tell(f"  {self._clock()} {part.name} …")
        folder = PARTS / "tmp" / part.name
        folder.mkdir(parents=True)
        with log.open("w") as out:
            try:
                part.make(folder, out)
            except (subprocess.CalledProcessError, OSError, ValueError) as error:
                out.write(f"{error}\n")
                out.flush()
                self.tell(f"  {self._clock()} {part.name} failed; what has begun is finished first")
                raise BuildFailed(
                    f"expected to build {part.name}, got an error: {_last_line(log)}; see {log}, then run again."
                ) from None
        folder.rename(folders[part.name])
        with self.lock:
            self.done += 1
            self.tell(
                f"  {self._clock()} {part.name} done, {time.monotonic() - began:.0f} s ({self.done} of {self.total})"
            )

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self.start), 60)
        return f"[{minutes:02}:{seconds:02}]"


def require_tools(missing: list[Part]) -> None:
    """Install, from Debian's packages, the build tools that are not there; nothing that is there is replaced."""
    names = {part.name for part in missing}
    wanted = {"mmdebstrap": "mmdebstrap"} if names & {"base"} else {}
    if "keycloak" in names:
        wanted["mvn"] = "maven"
    packages = [package for tool, package in wanted.items() if not shutil.which(tool)]
    if not packages:
        return
    file = LOGS / "build-apt.log"
    with file.open("w") as log:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run(
                ["apt-get", "-q", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
            if done.returncode:
                raise BuildFailed(
                    f"expected apt-get to install {', '.join(packages)}, got exit code {done.returncode}; see {file}."
                )


def _go_toolchain(folder: Path, log: IO) -> None:
    there = shutil.which("go")
    if there and _go_version(there) >= _wanted_go():
        (folder / "go").symlink_to(there)
        return
    _uv_install("go", folder / "site", log)
    found = next(path for path in (folder / "site").rglob("bin/go") if path.is_file())
    (folder / "go").symlink_to(os.path.relpath(found, folder))


def _go_version(program: str) -> tuple[int, ...]:
    said = subprocess.run(
        [program, "env", "GOVERSION"], capture_output=True, text=True, env={**os.environ, "GOTOOLCHAIN": "local"}
    )
    numbers = said.stdout.strip().removeprefix("go").split(".")
    return tuple(int(number) for number in numbers if number.isdigit())


def _wanted_go() -> tuple[int, ...]:
    line = next(line for line in _read("go/go.mod").splitlines() if line.startswith("go "))
    return tuple(int(number) for number in line.split()[1].split("."))


def _go_inputs() -> str:
    files = sorted(path for path in (HERE / "go").rglob("*") if path.is_file())
    return "\n".join(path.read_text() for path in files) + " ".join(GO_PROGRAMS)


def _programs(folder: Path, log: IO) -> None:
    go = (PARTS / f"go-{_keys(parts())['go']}" / "go").resolve()
    kube, istio = version("kubernetes"), version("istio")
    major, minor = kube.split(".")[:2]
    base = "k8s.io/component-base/version"
    names = {f"{base}.gitVersion": f"v{kube}", f"{base}.gitMajor": major, f"{base}.gitMinor": minor}
    names |= {f"{base}.gitTreeState": "clean", "istio.io/istio/pkg/version.buildVersion": istio}
    names |= {
        "istio.io/istio/pkg/version.buildGitRevision": istio.split("-")[1],
        "istio.io/istio/pkg/version.buildStatus": "eks-sandbox",
    }
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in names.items())])
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOGC": "400", "GOBIN": ""}
    environment |= {"GOMODCACHE": str(HOME / "go" / "mod"), "GOCACHE": str(HOME / "go" / "build")}
    run = {
        "cwd": HERE / "go",
        "stdin": subprocess.DEVNULL,
        "stdout": log,
        "stderr": log,
        "env": environment,
        "check": True,
    }
    command = [str(go), "build", "-mod=readonly", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", flags, "-v"]
    subprocess.run([*command, "-o", f"{folder}/", *GO_PROGRAMS], **run)
    (folder / "server").rename(folder / "etcd")
    for name in KUBE_NAMES:
        (folder / name).symlink_to("kube")
    listed = subprocess.run(
        [str(go), "list", "-m", "-f", "{{.Dir}}", "istio.io/istio"], **{**run, "stdout": subprocess.PIPE}, text=True
    )
    bootstrap = Path(listed.stdout.strip()) / "tools" / "packaging" / "common" / "envoy_bootstrap.json"
    shutil.copyfile(bootstrap, folder / "envoy_bootstrap.json")


def _envoy(folder: Path, log: IO) -> None:
    _uv_install("envoy", folder / "site", log)
    found = [path for path in (folder / "site").rglob("envoy*") if path.is_file() and path.stat().st_size > 20 << 20]
    shutil.move(found[0], folder / "envoy")
    (folder / "envoy").chmod(0o755)
    shutil.rmtree(folder / "site")


def _uv_install(lock: str, target: Path, log: IO) -> None:
    uv = Path(sys.executable).with_name("uv")
    command = [
        str(uv),
        "pip",
        "install",
        "--require-hashes",
        "--target",
        str(target),
        "-r",
        str(HERE / "locks" / f"{lock}.lock"),
    ]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)


def _base(folder: Path, log: IO) -> None:
    layers.base(folder / "root", log)
    layers.pack(folder / "root", folder / "layer.tar")


_POSTGRES = """
mkdir -p /etc/postgresql-common
echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
groupadd --system --gid 999 postgres
useradd --system --uid 999 --gid 999 --home-dir /var/lib/postgresql --no-create-home postgres
"""


def _debian_layer(packages: str, first: str = "") -> Callable[[Path, IO], None]:
    def make(folder: Path, log: IO) -> None:
        upper = layers.layer([_built("base") / "root"], folder, first + layers.install(packages), log)
        layers.pack(upper, folder / "layer.tar")

    return make


# Settings that Keycloak takes only when it is built: the start is half as long then.
_KEYCLOAK_BUILD = (
    "cd /opt/keycloak && bin/kc.sh build --db=postgres --health-enabled=true --metrics-enabled=true"
    " && chmod -R a+rX /opt/keycloak && mkdir -p data && chmod 777 data && rm -rf /tmp/* data/tmp"
)


def _keycloak(folder: Path, log: IO) -> None:
    wanted = VERSIONS["keycloak"]
    artifact = f"org.keycloak:keycloak-quarkus-dist:{wanted['version']}:zip"
    command = [
        "mvn",
        "-q",
        "-B",
        "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy",
        f"-Dartifact={artifact}",
    ]
    subprocess.run(
        [*command, f"-DoutputDirectory={folder}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True
    )
    package = next(folder.glob("*.zip"))
    with package.open("rb") as content:
        got = hashlib.file_digest(content, "sha256").hexdigest()
    if got != wanted["sha256"]:
        raise ValueError(f"{package.name}: expected SHA-256 {wanted['sha256']}, got {got}")
    shutil.unpack_archive(package, folder / "dist")
    package.unlink()
    home = next((folder / "dist").iterdir())
    for script in (home / "bin").glob("*.sh"):
        script.chmod(0o755)
    lowers = [_built("jre") / "upper", _built("base") / "root"]
    upper = layers.layer(lowers, folder, _KEYCLOAK_BUILD, log, add={"/opt/keycloak": home})
    shutil.rmtree(folder / "dist")
    layers.pack(upper, folder / "layer.tar")


def _images(folder: Path, log: IO) -> None:
    needed = ("programs", "envoy", "base", "jre", "keycloak", "postgres")
    digests = archive(images_of({name: _built(name) for name in needed}, folder), folder / "images.tar")
    (folder / "digests.json").write_text(json.dumps(digests, indent=1))
    for path in folder.glob("*.layer.tar"):
        path.unlink()


def _built(name: str) -> Path:
    return PARTS / f"{name}-{_keys(parts())[name]}"


def _drop_old(folders: dict[str, Path]) -> None:
    keep = set(folders.values())
    for path in PARTS.iterdir():
        if path not in keep:
            shutil.rmtree(path, ignore_errors=True)


def _link_programs(programs: Path) -> None:
    BIN.mkdir(parents=True, exist_ok=True)
    for name in ("kubectl", "istioctl"):
        link = BIN / f".{name}"
        link.unlink(missing_ok=True)
        link.symlink_to(programs / name)
        link.rename(BIN / name)


def drop_caches() -> None:
    """Delete the module and build caches of Go; the built parts stay."""
    folder = HOME / "go"
    if folder.is_dir():
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
        shutil.rmtree(folder)


def _read(name: str) -> str:
    return (HERE / name).read_text()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no output"
