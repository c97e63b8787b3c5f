"""Tiny notebooks and params, to run the series on."""

import nbformat
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lib.bundle.verify import verify

KEY = Ed25519PrivateKey.generate()  # signs these tests' bundles

PARAMS = """
env: {env}
cluster_source: eks
istio_tag: "1.31"
keycloak_image: keycloak
postgres_image: postgres
httpbin_image: httpbin
sleep_image: sleep
region: {region}
"""

OPEN = "from lib.record.events import Record\nrecord = Record.from_environment()"
CHANGE = "record.write('change', kind='Namespace', namespace='', name='foo', action='created')"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrYyJ9.c2lnbmF0dXJlc2lnbmF0dXJl"


def check(passed=True, verdict=""):
    """The source of a cell that records one check."""
    return (
        "record.write('check', name='answer', expected='200', actual='" + ("200" if passed else "403") + "', "
        f"verdict='{verdict or ('pass' if passed else 'fail')}', passed={passed}, seconds=0.1, tries=2, reason='')"
    )


def problems(folder, key=KEY):
    """What is wrong with a bundle of these tests."""
    return verify(folder, [key.public_key()]).problems


def write_notebook(path, *cells, parameters="env = 'none'", needs=""):
    """Write a notebook of these code cells, with a title, the steps it `needs`, and a parameters cell."""
    declaration = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    sources = [nbformat.v4.new_code_cell(cell) for cell in cells]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    stated = f"\n\n**You need** {needs}. **You get** nothing." if needs else ""
    title = nbformat.v4.new_markdown_cell(f"# Title of {path.stem}{stated}")
    notebook = nbformat.v4.new_notebook(cells=[title, declaration, *sources], metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)


def write_params(folder, env="tiny", region="us-east-1", more=""):
    """Write params of an environment; the region keeps its lock apart from other runs'."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{env}.yml").write_text(PARAMS.format(env=env, region=region) + more)
