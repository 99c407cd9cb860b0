"""BERT as transformers saves it into our towers over words, fusers and heads: ALBEF and BLIP start from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from compose_vlp.components.layers.bert import BertText
from compose_vlp.components.layers.vocabulary import VocabularyHead
from compose_vlp.errors import UserError
from compose_vlp.interop import bert
from compose_vlp.interop.maps.name_map import Converted, NameMap, State, by_rules
from compose_vlp.interop.maps.positions import first_positions
from compose_vlp.interop.maps.transformers_model import modern_name
from compose_vlp.interop.rules import Rule, rows_of, same

PREFIXES = ("bert.", "")
"""What names begin with, under a head and without one."""

HEAD = "cls.predictions"
NUMBERS = ("embeddings.position_ids", "embeddings.token_type_ids")
"""Buffers of older versions of the library, which follow from the rest."""


def fits(names: Collection[str], module: nn.Module) -> bool:
    """Are these the names of a BERT, or, for a head, of BERT's head for words?"""
    known = {modern_name(name) for name in names}
    if isinstance(module, VocabularyHead):
        return f"{HEAD}.transform.dense.weight" in known
    return _prefix(known) is not None


def convert(state: State, module: Any) -> Converted:
    """A tower's first layers, a fuser's last ones, or `cls.predictions`; pooler and sentence head are left over.

    Raises:
        UserError: the file is of a relative of BERT's that computes otherwise, or the head lacks what BERT's has.
    """
    originals = {modern_name(name): name for name in state}
    modern = {name: state[original] for name, original in originals.items()}
    converted = _head(modern, module) if isinstance(module, VocabularyHead) else _layers(modern, module)
    sources = {ours: tuple(originals[name] for name in names) for ours, names in converted.sources.items()}
    return replace(converted, sources=sources)


def _prefix(names: Collection[str]) -> str | None:
    """Find what the names begin with; none for other models, whose layers are named otherwise."""
    telling = ("embeddings.word_embeddings", "encoder.layer.0.attention.self.query", "encoder.layer.0.output.LayerNorm")
    return next((prefix for prefix in PREFIXES if all(f"{prefix}{stem}.weight" in names for stem in telling)), None)


def _layers(state: State, module: Any) -> Converted:
    prefix = _prefix(state) or ""
    layers = bert.depth(state, f"{prefix}encoder.layer")
    _check(state, prefix, layers)
    words = isinstance(module, BertText)
    first = 0 if words else max(layers - module.config.depth, 0)
    rules = list(_embeddings(prefix)) if words else []
    for i in range(len(module.layers)):
        # A fuser of several contexts has a layer for each of them, one after the other.
        number = first + i * module.config.depth // len(module.layers)
        rules += bert.layer(f"{prefix}encoder.layer.{number}", f"layers.{i}", cross=True)
    converted = by_rules(rules, state, module)
    if words:
        if module.positions is not None:
            converted = first_positions(converted, "positions", len(module.positions))
        else:
            converted = replace(converted, notes=(*converted.notes, "positions: the file's are left out"))
        return _telling_types(converted, state, prefix, module)
    note = f"layers: the file's from {first} to {layers - 1}"
    return replace(converted, notes=(*converted.notes, note))


def _telling_types(converted: Converted, state: State, prefix: str, module: BertText) -> Converted:
    if module.token_types is not None or f"{prefix}embeddings.token_type_embeddings.weight" not in state:
        return converted
    return replace(converted, notes=(*converted.notes, "token_types: the file's are left out"))


def _head(state: State, module: VocabularyHead) -> Converted:
    if module.transform is None or module.bias is None:
        raise UserError(
            "`start`: BERT's head for words has a transform and a bias for each, which this component has not",
            hints=["of an `lm_head`: `transform: true, bias: true`"],
        )
    # The table is the embedding's, and saved files hold it once.
    tables = [same(f"{prefix}embeddings.word_embeddings.weight", "weight") for prefix in PREFIXES]
    return by_rules([*tables, *_below(bert.word_head(HEAD, ""))], state, module)


def _embeddings(prefix: str) -> Iterator[Rule]:
    return _below(bert.embeddings(f"{prefix}embeddings", "", token_types=True))


def _below(rules: Iterable[Rule]) -> Iterator[Rule]:
    """Rules for a component without a name, so that ours are those within it."""
    return (replace(rule, ours=tuple(name.removeprefix(".") for name in rule.ours)) for rule in rules)


def _check(state: State, prefix: str, layers: int) -> None:
    """Relatives of BERT's have its names and more; RoBERTa has the same, but one token type, and counts positions from
    the padding's number on."""
    rules = [*_embeddings(prefix)]
    for i in range(layers):
        rules += bert.layer(f"{prefix}encoder.layer.{i}", "", cross=True)
    known = {name for rule in rules for name in rule.theirs} | {f"{prefix}{name}" for name in NUMBERS}
    ours = (f"{prefix}embeddings.", f"{prefix}encoder.")
    unknown = next((name for name in state if name.startswith(ours) and name not in known), None)
    if unknown is not None:
        raise UserError(f"`start`: the file's model has `{unknown}`, which BERT has not")
    name = f"{prefix}embeddings.token_type_embeddings.weight"
    types = rows_of(state, name) if name in state else 2
    if types != 2:
        raise UserError(
            f"`start`: the file's model has token types, but {types} and not BERT's two",
            hints=["RoBERTa's layers are named as BERT's, and it counts positions otherwise: `use: transformers`"],
        )


MAP = NameMap(
    "transformers",
    frozenset({"bert_encoder", "cross_attention_fuser", "text_decoder", "mlm_head", "lm_head"}),
    fits,
    convert,
)
