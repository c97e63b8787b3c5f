"""`verify` has a sentence for each attack on a record, and the table of attacks in docs is current."""

import pytest

from lib.params import ROOT
from tests.support import attacks
from tests.support.attacks import ATTACKS, said, sentence, table, target

DOCUMENT = ROOT / "docs" / "record-attacks.md"


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return target(tmp_path_factory.mktemp("three"))


@pytest.fixture(scope="module")
def sentences():
    return {}


def test_the_three_runs_verify(three):
    for folder in three.parent.iterdir():
        lines, problem = attacks.audit.bundle(folder, [attacks.SIGNER.public_key()])
        assert not problem and "pages of notebooks" in lines[-1], lines


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.name)
def test_an_attack_gets_its_sentence(attack, three, tmp_path, sentences):
    lines, problem = said(attack, three, tmp_path)
    assert sentence(attack, lines), lines
    assert problem or "its clock went" in attack.words, lines
    sentences[attack.name] = sentence(attack, lines)


def test_the_table_in_docs_is_current(sentences):
    if len(sentences) < len(ATTACKS):
        pytest.skip("it needs the sentences of all attacks")
    assert DOCUMENT.read_text(encoding="utf-8") == table(sentences)
