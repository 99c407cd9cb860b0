"""The section `data`: what no source could be opened from is told before anything is opened."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compose_vlp.errors import Problem

Only = Callable[..., Problem]
Messages = Callable[..., list[tuple[str, str]]]
BEGIN = "extends: coca\nstages: {a: {data: pairs, length: 1 epoch, losses: [contrastive]}}\ndata:\n"


@pytest.mark.parametrize(
    ("lines", "place", "message"),
    [
        ("pairs: {use: jsonll}", "jsonll", "no source is called `jsonll`"),
        ("pairs: {use: vit}", "vit", "`vit` is a component, not a source"),
        ("pairs: {use: jsonl, pat: x}", "pat", "no field is called `pat`"),
        ("pairs: {use: jsonl, skip_limit: 2}", "2", "`skip_limit` should be less than or equal to 1; it is `2`"),
        ("pairs: {path: x}", "pairs", "`pairs` does not say what it is: `use` is missing"),
        ("pairs: {use: jsonl, path: $HOME/x.jsonl}", "$HOME/x.jsonl", "no param is called `$HOME/x.jsonl`"),
        ("pairs: {use: jsonl, path: $HOME}", "$HOME", "no param is called `$HOME`"),
        ("pairs: {mix: {pairs: 1}}", "pairs", "data `pairs` is a part of itself: pairs > pairs"),
        ("pairs: {mix: {}}", "{}", "the mixture `pairs` has no parts"),
        ("pairs: {mix: {a: 1}}\n  a: {mix: {b: 1}}\n  b: {mix: {c: 1, a: 1}}\n  c: {use: scenes}", "a",
         "data `a` is a part of itself: a > b > a"),
        ("pairs: {mix: {other: 1}}", "other", "no data source is called `other`"),
        ("pairs: {mix: {a: 1}, path: x}\n  a: {use: scenes}", "path", "a mixture has no setting `path`"),
        ("pairs: {use: scenes, mix: {a: 1}}\n  a: {use: scenes}", "mix",
         "data `pairs` has `use` and `mix`: it is one source or several"),
        ("pairs: {mix: {a: 0}}\n  a: {use: scenes}", "0", "`a` should be greater than 0; it is `0`"),
    ],
)  # fmt: skip
def test_what_no_source_could_be_opened_from(messages: Messages, lines: str, place: str, message: str) -> None:
    actual = messages(f"{BEGIN}  {lines}\n")
    assert [(where.split(" ", 1)[1], text) for where, text in actual] == [(place, message)]


def test_variables_of_the_shell_are_told_to_stay_there(only: Only) -> None:
    assert "variables of the shell are not read here" in only(f"{BEGIN}  pairs: {{use: jsonl, path: $HOME/x}}").hints[0]


def test_a_param_that_only_data_reads_stays(child: Callable[..., object], messages: Messages) -> None:
    assert messages(f"{BEGIN}  pairs: {{use: jsonl, path: $where}}\nparams: {{where: x.jsonl}}\n") == []


def test_a_mixture_of_mixtures_is_no_circle(messages: Messages) -> None:
    assert messages(f"{BEGIN}  pairs: {{mix: {{a: 1, b: 1}}}}\n  a: {{mix: {{b: 2}}}}\n  b: {{use: scenes}}\n") == []
