"""Blueprints and changes among the words of a command line, and plugins."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.cli.options import in_brief, sort_words
from compose_vlp.errors import UserError
from tests.cli.support import Cli

PLUGIN = '''
from typing import Annotated
from compose_vlp.registry import function
from compose_vlp.values import Embedding

@function("doubled_for_a_test")
def doubled(x: Annotated[Embedding, "rows width"]) -> Annotated[Embedding, "rows width"]:
    """Twice the embedding."""
    return x
'''


def test_blueprints_and_changes_may_be_mixed() -> None:
    request = sort_words(["alpha=0", "coca", "+losses.x={use: y}", "mine.yaml", "~losses.mlm"])
    assert request.blueprints == ("coca", "mine.yaml")
    assert request.overrides == ("alpha=0", "+losses.x={use: y}", "~losses.mlm")


def test_changes_without_a_blueprint_are_refused() -> None:
    with pytest.raises(UserError, match="no blueprint is named: 'alpha=0' is a change"):
        sort_words(["alpha=0"])


def test_no_words_at_all_are_refused(cli: Cli) -> None:
    result = cli("check")
    assert result.code == 2
    assert "BLUEPRINT|CHANGE" in result.err


def test_kinds_of_a_plugin_are_found(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN, encoding="utf-8")
    result = cli("components doubled_for_a_test --plugin mine.py")
    assert result.code == 0
    assert "Twice the embedding." in result.out


def test_missing_plugin_is_named(cli: Cli) -> None:
    result = cli("check coca --plugin nowhere.py")
    assert result.code == 2
    assert "no plugin file 'nowhere.py'" in result.err


def test_a_note_of_many_names_is_one_line_unless_it_is_to_be_verbose(cli: Cli) -> None:
    brief, whole = (cli("check", "albef", "tasks/entailment", *words).err for words in ((), ("--verbose",)))
    assert "so gone: params.alpha, params.lr, components.similarity, components.memory and 16 more (--verbose" in brief
    assert "graph.taught" in whole and "more (--verbose" not in whole


def test_a_note_with_a_sentence_in_it_is_printed_as_it_is() -> None:
    sentence = "stage: one, two, three words, four, five, six, seven"
    assert in_brief(sentence, verbose=False) == sentence
    assert in_brief("gone: a, b, c, d, e", verbose=False) == "gone: a, b, c, d, e"
