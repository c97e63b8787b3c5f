"""docs/sandbox.md says for each service what is enforced, and says what the code does."""

import re
from pathlib import Path

import pytest

from sandbox.iam.enforced import SERVICES

PAGE = Path(__file__).parents[3] / "docs" / "sandbox.md"
HEAD = "| service | operations | resources in policies | refused, since nothing enforces it |\n|---|---|---|---|\n"


def row(name, service):
    operations = "all that moto has" if service.permissions is None else ", ".join(sorted(service.permissions))
    return f"| {name} | {operations} | {service.says} | {', '.join(service.refused) or '–'} |\n"


def test_the_pages_attacks_are_tests():
    table = PAGE.read_text(encoding="utf-8").partition("| attack | refused by | test |")[2].partition("\n\n")[0]
    named = re.findall(r"\| (test_\w+) \|$", table, re.MULTILINE)
    text = "".join(path.read_text(encoding="utf-8") for path in (PAGE.parents[1] / "tests").rglob("test_*.py"))
    assert len(named) > 10 and [name for name in named if f"def {name}(" not in text] == []
    requests = (Path(__file__).with_name("test_attacks.py")).read_text(encoding="utf-8").count("lambda m:")
    assert f"{requests} requests by a user with few rights" in PAGE.read_text(encoding="utf-8")


def test_the_page_has_the_table_of_what_is_enforced():
    table = HEAD + "".join(row(*one) for one in sorted(SERVICES.items()))
    assert table in PAGE.read_text(encoding="utf-8"), f"put this table into {PAGE.name}:\n{table}"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_the_operations_and_parameters_of_the_table_exist(name):
    from moto.core.utils import get_service_model

    service = SERVICES[name]
    model = get_service_model(service.model)
    operations = [model.operation_model(one) for one in model.operation_names]
    members = {member for one in operations if one.input_shape for member in one.input_shape.members}
    assert model.signing_name == name
    assert set(service.permissions or ()) <= set(model.operation_names)
    assert set(service.refused) <= members | set(model.operation_names)
    assert {parameter for parameter, _ in service.resources} <= members | {"cluster"}
