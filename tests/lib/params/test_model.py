"""Params are strict: every mistake names the file, the key and what is expected."""

import pytest

from lib.errors import ParamsError
from lib.params import load
from tests.support.tiny import write_params


def sentence(tmp_path, more="", env="tiny", **options):
    write_params(tmp_path, more=more)
    with pytest.raises(ParamsError) as caught:
        load(env, folder=tmp_path, **options)
    return str(caught.value)


def test_defaults_are_filled(tmp_path):
    write_params(tmp_path)
    assert load("tiny", folder=tmp_path).streak == 5
    assert load("tiny", {"streak": 2}, folder=tmp_path).streak == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("cluster_nam: a", ["tiny.yml", "cluster_nam", "did you mean cluster_name?"]),
        ("zzz: a", ["zzz", "the keys are: env, "]),
        ("streak: many", ["streak", "integer", "'many'"]),
        ("streak: 51", ["streak", "50", "51"]),
        ("namespace: Foo_1", ["namespace", "Foo_1"]),
        ("region: again", ["region stands twice"]),
        ("a: [", ["expected YAML"]),
        ("istio_settings: a=b", ["istio_settings", "list"]),
    ],
)
def test_a_mistake_is_named(tmp_path, more, words):
    said = sentence(tmp_path, more)
    assert "tiny.yml" in said and all(word in said for word in words), said


def test_all_problems_are_reported_at_once_each_on_a_line(tmp_path):
    more = (
        "cluster_nam: a\nstreak: many\nkubernetes_version: 1.36\ntls: off\nsubnet_ids: [subnet-1]\nca_file: a.pem\n1: a"
    )
    write_params(tmp_path, more=f"{more}\nnode_count: 3\nnode_max: 2\nload_balancer_scheme: internal")
    path = tmp_path / "tiny.yml"
    path.write_text(path.read_text().replace("env: tiny", "env: other"))
    with pytest.raises(ParamsError) as caught:
        load("tiny", folder=tmp_path)
    lines = str(caught.value).splitlines()
    words = ("env: tiny", "key 1 ", "cluster_nam;", "streak", "kubernetes_version", "for tls", "load_balancer_scheme")
    for word in (*words, "subnet_ids needs two", "node_count 3"):
        assert sum(word in line for line in lines) == 1, (word, lines)
    assert all(line.startswith(str(path)) and line[-1] in ".?" for line in lines) and len(lines) == 9, (
        lines
    )  # ca_file depends on tls


@pytest.mark.parametrize(
    "more", ["kubernetes_version: 1.36", "tls: off", "user: 1", "region: 2026-01-31", "realm: yes"]
)
def test_a_text_that_yaml_reads_as_another_type_needs_quotes(tmp_path, more):
    (tmp_path / "tiny.yml").unlink(missing_ok=True)
    key = more.partition(":")[0]
    write_params(tmp_path, region='"x"' if key == "region" else "us-east-1", more=more if key != "region" else "")
    if key == "region":
        path = tmp_path / "tiny.yml"
        path.write_text(path.read_text().replace('region: "x"', more))
    with pytest.raises(ParamsError, match=rf"expected for {key}: .*; YAML reads it as \w+: quote it\."):
        load("tiny", folder=tmp_path)


def test_a_number_that_papermill_made_of_an_account_says_how_to_give_it(tmp_path):
    write_params(tmp_path)
    with pytest.raises(ParamsError, match="got 12345678901; with papermill take -r account_id, not -p; .*: quote it"):
        load("tiny", {"account_id": 12345678901}, folder=tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "? [a]\n: b",
        "a: " + "[" * 3000,
        "a: 2026-13-45",
        "a: !!int x",
        "a: !!bool x",
        "a: !!timestamp x",
        "a: \xff",
        "\0",
    ],
)
def test_a_file_that_yaml_cannot_read_is_a_sentence(tmp_path, text):
    (tmp_path / "tiny.yml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ParamsError, match=r"tiny\.yml: expected .*, got: .*; (correct|quote)"):
        load("tiny", folder=tmp_path)


@pytest.mark.parametrize(
    ("controller", "ranges", "words"),
    [
        ("in-tree", ["0.0.0.0/0", "203.0.113.0/24"], "holds everybody"),
        ("in-tree", ["203.0.113.0/24", "0.0.0.0/0"], "holds everybody"),
        ("in-tree", ["::/0"], "which the in-tree controller refuses"),
        ("aws-load-balancer-controller", ["2001:db8::/32", "::/0"], "holds everybody"),
        ("aws-load-balancer-controller", ["0.0.0.0/0", "::/0"], ""),
        ("aws-load-balancer-controller", ["0.0.0.0/0", "2001:db8::/32"], ""),
    ],
)
def test_source_ranges_in_any_order_and_of_both_families(tmp_path, controller, ranges, words):
    more = f"load_balancer_controller: {controller}\nload_balancer_source_ranges: {ranges}"
    if words:
        assert words in sentence(tmp_path, more)
    else:
        write_params(tmp_path, more=more)
        assert load("tiny", folder=tmp_path).load_balancer_source_ranges == ranges


@pytest.mark.parametrize(
    ("command", "refused"),
    [
        ("[start, --http-relative-path=/auth]", True),
        ("[start, --http-relative-path, /auth]", True),
        ("[start, --http-relative-path=/]", False),
        ("[start, --db=postgres]", False),
    ],
)
def test_keycloak_under_another_path_is_refused_at_once(tmp_path, command, refused):
    if refused:
        assert "keycloak_command sets http-relative-path to /auth" in sentence(tmp_path, f"keycloak_command: {command}")
    else:
        write_params(tmp_path, more=f"keycloak_command: {command}")
        assert load("tiny", folder=tmp_path)


@pytest.mark.parametrize(
    "more", ["? [a, b]\n: c", "a: " + "[" * 1500, "node_labels: &a {b: *a}", "on: x", "? {a: b}\n: c"]
)
def test_values_that_python_cannot_take_are_a_sentence(tmp_path, more):
    assert "tiny.yml: " in sentence(tmp_path, more)


def test_a_missing_value_is_named(tmp_path):
    (tmp_path / "bare.yml").write_text("env: bare\ncluster_source: eks\n")
    with pytest.raises(ParamsError, match="expected a value for istio_tag"):
        load("bare", folder=tmp_path)


def test_the_environment_is_one_of_the_files(tmp_path):
    assert "among tiny, got 'dve'" in sentence(tmp_path, env="dve")
    (tmp_path / "tiny.yml").rename(tmp_path / "other.yml")
    with pytest.raises(ParamsError, match="expected env: other"):
        load("other", folder=tmp_path)


def test_no_endpoint_without_eks(tmp_path):
    write_params(tmp_path, more="aws_endpoint_url: http://127.0.0.1:5000")
    with pytest.raises(ParamsError, match="aws_endpoint_url is for cluster_source: eks"):
        load("tiny", {"cluster_source": "existing"}, folder=tmp_path)


@pytest.mark.parametrize(
    ("environment", "wanted"), [({}, "~/x/bin"), ({"PLACE": "/y"}, "/y/bin"), ({"PLACE": ""}, "~/x/bin")]
)
def test_values_follow_the_environment(tmp_path, environment, wanted):
    write_params(tmp_path, more="istioctl: ${PLACE:-~/x}/bin")
    assert load("tiny", folder=tmp_path, environment=environment).istioctl == wanted


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("time_stamp_url: http://tsa.example", "time_stamp_url and time_stamp_ca_file need each other"),
        ("time_stamp_ca_file: root.pem", "time_stamp_url and time_stamp_ca_file need each other"),
        ("time_stamp_ca_file: root.pem\ntime_stamp_url: ftp://tsa.example", "expected for time_stamp_url"),
        ("time_stamp_ca_file: root.pem\ntime_stamp_url: http://u:p" + "@tsa.example", "expected for time_stamp_url"),
        ("time_stamp_ca_file: root.pem\ntime_stamp_url: http://tsa.example/?key=x", "expected for time_stamp_url"),
    ],
)
def test_a_time_stamping_authority_has_an_address_without_secrets_and_a_root(tmp_path, more, words):
    assert words in sentence(tmp_path, more)
