"""The part of Istio's own security suites: the files of the module that they read, and their workloads' images."""

import tarfile

from sandbox.build import istio_suites
from sandbox.build.parts import HERE, parts
from sandbox.paths import HUB

SAMPLE = "      - image: hub.example/ext-authz:latest\n        imagePullPolicy: Always\n"
FILES = {
    "manifests/charts/base/Chart.yaml": "name: base\n",
    "pkg/test/framework/components/echo/kube/templates/deployment.yaml": "imagePullPolicy: {{ $.ImagePullPolicy }}\n",
    "pkg/test/framework/components/echo/config.go": "package echo\n",
    "samples/extauthz/ext-authz.yaml": SAMPLE,
    "samples/jwt-server/jwt-server.yaml": "      - name: jwt-server\n        image: hub.example/jwt-server:0.8\n",
    "samples/certs/generate-workload.sh": "#!/bin/bash\n",
    "tests/integration/security/crl/main_test.go": "package crl\n",
    "tests/testdata/certs/dns/cert-chain.pem": "certificate\n",
    "tests/testdata/certs/dns/key.pem": "key\n",
    "pilot/README.md": "read by no suite\n",
}


def module(folder):
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o444)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o555)  # as Go's module cache has them
    return folder


def test_the_copy_of_the_module_pulls_no_image_and_has_scripts_that_run(tmp_path):
    tree = tmp_path / "tree"
    istio_suites.copy_tree(module(tmp_path / "module"), tree)
    copied = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert copied == {name for name in FILES if not name.endswith((".go", "README.md"))}
    assert (tree / "samples/extauthz/ext-authz.yaml").read_text() == SAMPLE.replace("Always", "IfNotPresent")
    assert (tree / "samples/certs/generate-workload.sh").stat().st_mode & 0o111 == 0o111
    assert (tree / "tests/integration/security/crl").is_dir()  # where the suite of this name starts
    (tree / "tests/new").write_text("")  # the copy can be deleted by its owner


def test_the_workloads_have_the_names_of_the_suites_manifests_and_the_echo_server_its_certificate(tmp_path):
    tree, programs, base = tmp_path / "tree", tmp_path / "programs", tmp_path / "base"
    istio_suites.copy_tree(module(tmp_path / "module"), tree)
    for folder in (programs, base):
        folder.mkdir()
    for name in istio_suites.WORKLOADS:
        (programs / name).write_text(name)
        (programs / name).chmod(0o755)
    app, authz, jwt = istio_suites.images(programs, tree, base)
    hub, _, tag = app.name.partition("/app:")
    assert (hub, tag) == (f"{HUB}/istio", istio_suites.TAG) and authz.name == f"{hub}/ext-authz:{tag}"
    assert jwt.name == "hub.example/jwt-server:0.8"
    with tarfile.open(app.layers[-1]) as layer:
        texts = {one.name: layer.extractfile(one).read().decode() for one in layer if one.isfile()}
    assert texts == {
        "cert.crt": "certificate\n",
        "cert.key": "key\n",
        "usr/local/bin/server": "server",
        "usr/local/bin/client": "client",
    }


def test_the_sums_are_those_that_the_pins_of_the_sandboxs_istio_lack():
    pinned, more = (file.read_text().splitlines() for file in (HERE / "go" / "go.sum", istio_suites.MORE_SUMS))
    assert more and not set(more) & set(pinned)


def test_other_parts_neither_need_the_suites_nor_have_their_sums_as_input():
    sums = istio_suites.MORE_SUMS.read_text()
    assert [part.name for part in parts() if "istio-suites" in part.needs] == []
    assert [part.name for part in parts() if sums in part.inputs] == ["istio-suites"]
