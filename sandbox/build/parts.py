"""The parts of the sandbox: what each depends on, and how to make it in an empty folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from sandbox.build import authorizer_image, conformance, debian_layers, istio_suites, login_images, runbook_image
from sandbox.build.image_catalogue import images_of, names
from sandbox.build.oci_images import Image, archive
from sandbox.paths import HOME, PARTS, VERSIONS, version

HERE = Path(__file__).resolve().parent
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
OAUTH2_PROXY = "github.com/oauth2-proxy/oauth2-proxy/v7"  # a Go module of its own: Istio's pins do not hold for it
GATEWAY_API = "sigs.k8s.io/gateway-api"  # the version that this Istio is built with, so that istiod knows every field
KUBE_NAMES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl")

Make = Callable[[Path, IO], None]  # fills an empty folder, and writes what programs say into the log


@dataclass(frozen=True)
class Part:
    """One part: `inputs` is the text that its key hashes, `make(folder, log)` fills an empty folder."""

    name: str
    inputs: str
    make: Make
    needs: tuple[str, ...] = ()
    lane: str = "other"  # "go" compiles on both cores for minutes, while the other lane downloads and unpacks
    optional: bool = False  # built by its name alone, never with all parts


def parts() -> list[Part]:
    """Return all parts, each after the parts that it needs."""
    debian, keycloak = json.dumps(VERSIONS["debian"]), json.dumps(VERSIONS["keycloak"])
    code = _read("debian_layers.py")
    return [
        Part("go", _read("locks/go.lock"), _go_toolchain, lane="go"),
        Part("gateway-api", _pinned(GATEWAY_API), _gateway_api, ("go",), lane="go"),
        Part("programs", _go_inputs() + json.dumps(_go_flags()), _programs, ("go",), lane="go"),
        Part("oauth2-proxy", _files_in("oauth2_proxy") + json.dumps(_proxy_flags()), _oauth2_proxy, ("go",), lane="go"),
        Part("deny-list", _files_in("deny_list") + json.dumps(_small_flags()), _deny_list, ("go",), lane="go"),
        Part("authorizer", authorizer_image.inputs() + str(_small_flags()), _authorizer, ("go",), lane="go"),
        Part("envoy", _read("locks/envoy.lock"), _envoy),
        Part("base", debian + code, _base),
        Part("jre", debian + code + _JRE, _debian_layer(_JRE), ("base",)),
        Part("keycloak", keycloak + code + str(_KEYCLOAK_BUILD), _keycloak, ("base", "jre")),
        Part("postgres", debian + code + _POSTGRES + _USER, _debian_layer(_POSTGRES, _USER), ("base",)),
        Part("node", debian + code + _NODE, _debian_layer(_NODE), ("base",)),
        Part("redis", debian + code + _REDIS, _debian_layer(_REDIS), ("base",)),
        Part(
            "images",
            json.dumps(names()) + _read("image_catalogue.py") + _read("oci_images.py"),
            _archive(images_of, _IMAGES),
            _IMAGES,
        ),
        Part(
            "login-images",
            json.dumps(login_images.names()) + _read("login_images.py") + _read("oci_images.py"),
            _archive(login_images.images_of, _LOGIN_IMAGES),
            _LOGIN_IMAGES,
        ),
        Part("conformance", conformance.inputs(), _conformance, ("go",), lane="go", optional=True),
        Part("istio-suites", istio_suites.inputs() + _go_inputs(), _istio_suites, ("go", "base"), "go", optional=True),
        Part("python", debian + code + runbook_image.inputs(), _python, ("base",), optional=True),
    ]


def keys(wanted: list[Part]) -> dict[str, str]:
    """Return each part's key: a hash of its inputs and of the keys of the parts that it needs."""
    found: dict[str, str] = {}
    for part in wanted:
        text = "\n".join([part.inputs, *(found[need] for need in part.needs)])
        found[part.name] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return found


def _go_toolchain(folder: Path, log: IO) -> None:
    installed = shutil.which("go")
    if installed and _go_version(installed) >= _wanted_go():
        (folder / "go").symlink_to(installed)
        return
    _uv_install("go", folder / "site", log)
    found = next(path for path in (folder / "site" / "go").rglob("bin/go") if path.is_file())  # not pip's entry script
    (folder / "go").symlink_to(os.path.relpath(found, folder))


def _go_version(program: str) -> tuple[int, ...]:
    done = subprocess.run(
        [program, "env", "GOVERSION"], capture_output=True, text=True, env={**os.environ, "GOTOOLCHAIN": "local"}
    )
    numbers = done.stdout.strip().removeprefix("go").split(".")
    return tuple(int(number) for number in numbers if number.isdigit())


def _wanted_go() -> tuple[int, ...]:
    line = next(line for line in _read("go/go.mod").splitlines() if line.startswith("go "))
    return tuple(int(number) for number in line.split()[1].split("."))


def _go_inputs() -> str:
    return _files_in("go") + " ".join(GO_PROGRAMS)


def _files_in(folder: str) -> str:
    return "\n".join(path.read_text() for path in sorted((HERE / folder).rglob("*")) if path.is_file())


def _go_flags() -> list[str]:
    kube, istio = version("kubernetes"), version("istio")
    major, minor = kube.split(".")[:2]
    base, own = "k8s.io/component-base/version", "istio.io/istio/pkg/version"
    names = {f"{base}.gitVersion": f"v{kube}", f"{base}.gitMajor": major, f"{base}.gitMinor": minor}
    names |= {f"{base}.gitTreeState": "clean", f"{own}.buildVersion": istio}
    names |= {f"{own}.buildGitRevision": istio.split("-")[1], f"{own}.buildStatus": "eks-sandbox"}
    link = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in names.items())])
    # Istio's own builds leave Envoy's validators out too: 7 MB of source without a caller
    return ["-mod=readonly", "-trimpath", "-tags=disable_pgv", "-gcflags=all=-dwarf=false", "-ldflags", link]


def _small_flags(link: str = "") -> list[str]:
    return ["-mod=readonly", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", f"-s -w {link}".strip()]


def _proxy_flags() -> list[str]:
    return _small_flags(f"-X {OAUTH2_PROXY}/pkg/version.VERSION=v{version('oauth2-proxy')}")


def _run_go(log: IO, *words: str, stdout: IO | int, folder: str = "go") -> str:
    go = (_built("go") / "go").resolve()
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOGC": "400", "GOBIN": ""}
    environment |= {"GOMODCACHE": str(HOME / "go" / "mod"), "GOCACHE": str(HOME / "go" / "build")}
    command, where = [str(go), *words], HERE / folder
    done = subprocess.run(
        command, cwd=where, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=log, check=True, text=True
    )
    return done.stdout


def _gateway_api(folder: Path, log: IO) -> None:
    """Copy the standard channel's CustomResourceDefinitions from the module, which Istio is built with too."""
    module = json.loads(_run_go(log, "mod", "download", "-json", GATEWAY_API, stdout=subprocess.PIPE))
    for file in (Path(module["Dir"]) / "config" / "crd" / "standard").glob(f"{_GROUP}_*.yaml"):
        text = file.read_text()
        if "\nkind: CustomResourceDefinition\n" in text:
            (folder / file.name).write_text(text)


_GROUP = "gateway.networking.k8s.io"


def _pinned(module: str) -> str:
    return "\n".join(line for line in _read("go/go.sum").splitlines() if line.startswith(f"{module} "))


def _programs(folder: Path, log: IO) -> None:
    _run_go(log, "build", *_go_flags(), "-v", "-o", f"{folder}/", *GO_PROGRAMS, stdout=log)
    (folder / "server").rename(folder / "etcd")
    for name in KUBE_NAMES:
        (folder / name).symlink_to("kube")
    module = _run_go(log, "list", "-m", "-f", "{{.Dir}}", "istio.io/istio", stdout=subprocess.PIPE)
    bootstrap = Path(module.strip()) / "tools" / "packaging" / "common" / "envoy_bootstrap.json"
    shutil.copyfile(bootstrap, folder / "envoy_bootstrap.json")


def _oauth2_proxy(folder: Path, log: IO) -> None:
    program = str(folder / "oauth2-proxy")
    _run_go(log, "build", *_proxy_flags(), "-v", "-o", program, OAUTH2_PROXY, stdout=log, folder="oauth2_proxy")


def _authorizer(folder: Path, log: IO) -> None:
    _run_go(log, "build", *_small_flags(), "-o", str(folder / "authorizer"), ".", stdout=log, folder="authorizer")
    authorizer_image.write(folder)


def _deny_list(folder: Path, log: IO) -> None:
    _run_go(log, "build", *_small_flags(), "-o", str(folder / "deny-list"), ".", stdout=log, folder="deny_list")


def _conformance(folder: Path, log: IO) -> None:
    go = partial(_run_go, log, stdout=subprocess.PIPE, folder="conformance")
    conformance.write(folder, go, _small_flags())


def _istio_suites(folder: Path, log: IO) -> None:
    istio_suites.write(folder, partial(_run_go, log, stdout=subprocess.PIPE), _go_flags(), _built("base"))


def _python(folder: Path, log: IO) -> None:
    runbook_image.write_packages(folder, _built("base"), log)


def _envoy(folder: Path, log: IO) -> None:
    _uv_install("envoy", folder / "site", log)
    found = [path for path in (folder / "site").rglob("envoy*") if path.is_file() and path.stat().st_size > 20 << 20]
    shutil.move(found[0], folder / "envoy")
    (folder / "envoy").chmod(0o755)
    shutil.rmtree(folder / "site")


def _uv_install(lock: str, target: Path, log: IO) -> None:
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "pip", "install", "--require-hashes", "--target", str(target)]
    command += ["-r", str(HERE / "locks" / f"{lock}.lock")]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)


def _base(folder: Path, log: IO) -> None:
    debian_layers.base(folder / "root", log)
    debian_layers.pack(folder / "root", folder / "layer.tar")


_JRE = "openjdk-17-jre-headless"
_NODE = "containerd runc containernetworking-plugins iptables nftables conntrack ethtool socat iproute2 kmod procps"
_POSTGRES = "postgresql-15"
_REDIS = "redis-server"
_USER = """
mkdir -p /etc/postgresql-common
echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
groupadd --system --gid 999 postgres
useradd --system --uid 999 --gid 999 --home-dir /var/lib/postgresql --no-create-home postgres
"""


def _debian_layer(packages: str, first: str = "") -> Make:
    def make(folder: Path, log: IO) -> None:
        upper = debian_layers.layer([_built("base") / "root"], folder, first + debian_layers.install(packages), log)
        debian_layers.pack(upper, folder / "layer.tar")

    return make


# Keycloak fixes these settings in a build, which halves the time of each start. The group may write, as in the public
# image: a start with other settings builds again.
_KEYCLOAK_BUILD = (
    "cd /opt/keycloak && bin/kc.sh build --db=postgres --health-enabled=true --metrics-enabled=true"
    " && chmod -R a+rX,g+w /opt/keycloak && mkdir -p data && chmod 777 data && rm -rf /tmp/* data/tmp"
)


def _keycloak(folder: Path, log: IO) -> None:
    wanted = VERSIONS["keycloak"]
    artifact = f"org.keycloak:keycloak-quarkus-dist:{wanted['version']}:zip"
    copy = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
    command = ["mvn", "-q", "-B", copy, f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
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
    upper = debian_layers.layer(lowers, folder, _KEYCLOAK_BUILD, log, add={"/opt/keycloak": home})
    shutil.rmtree(folder / "dist")
    debian_layers.pack(upper, folder / "layer.tar")


_IMAGES = ("programs", "envoy", "base", "jre", "keycloak", "postgres")
_LOGIN_IMAGES = ("base", "oauth2-proxy", "redis", "deny-list")


def _archive(images: Callable[[dict[str, Path], Path], list[Image]], needs: tuple[str, ...]) -> Make:
    def make(folder: Path, log: IO) -> None:
        archive(images({name: _built(name) for name in needs}, folder), folder / "images.tar")
        for path in folder.glob("*.layer.tar"):
            path.unlink()

    return make


def _built(name: str) -> Path:
    return PARTS / f"{name}-{keys(parts())[name]}"


def _read(name: str) -> str:
    return (HERE / name).read_text()
