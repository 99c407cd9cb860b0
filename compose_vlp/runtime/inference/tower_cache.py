"""Outputs of pairs from what each side is alone: towers run once a picture and once a text, however many meet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from compose_vlp.compiler.compile import Compiled, compile_plan
from compose_vlp.compiler.model import Step
from compose_vlp.compiler.program_runtime import take
from compose_vlp.graph.graph import CheckedBlueprint, fragment
from compose_vlp.graph.plan import Call, Ref
from compose_vlp.graph.types import IndexType, RowSpace
from compose_vlp.runtime.inference.outputs import Asker, tensor_of
from compose_vlp.runtime.modes import evaluating
from compose_vlp.values import Index, Part, Text, Value, rows_of
from compose_vlp.values import Sequence as Features

Row: TypeAlias = Mapping[str, Value]
"""What is kept of one picture or text: values of one row, by the name that the joint program reads them by."""


class Stored:
    """A value output, split where its inputs meet (`OutputEntry.stored`): `keep` what a field gives, `ask` for pairs.

    An input of which nothing can be kept (BLIP encodes a text anew with each picture) is kept as it came.

    Args:
        asker: a model and its blueprint.
        output: an output that is a value, such as `match`.
        logits: give the scores that the output is the softmax of, where it is one.
    """

    def __init__(self, asker: Asker, output: str, *, logits: bool = False) -> None:
        self._asker = asker
        blueprint = asker.blueprint
        self._output = output
        self.fields = asker.fields_read(output)
        """The fields of a record that the output reads, and the inputs that each of them fills."""
        entry = blueprint.outputs[output]
        result = before_softmax(blueprint, entry.ref) if logits else entry.ref
        inputs = [name for names in self.fields.values() for name in names]
        stored = {name: entry.stored.get(name, ()) for name in inputs}
        kept = {name: tuple(dict.fromkeys(ref.call for ref in refs)) for name, refs in stored.items()}
        handed = {call for calls in kept.values() for call in calls}
        self._joint = _joint(blueprint, output, result, handed)
        self._picked = frozenset(map(_handed, handed))
        read = {call.target for call in self._joint.plan.calls if call.role == "input"}
        self._towers: dict[str, Compiled] = {}
        self._as_it_came: dict[str, tuple[str, ...]] = {}
        for name in inputs:
            calls = [call for call in kept.get(name, ()) if _handed(call) in read]
            if calls:
                results = {_handed(call): Ref(call) for call in calls}
                self._towers[name] = compile_plan(blueprint, f"keep_{name}", results, trainable=lambda _: False)
            self._as_it_came[name] = (name,) if name in read else ()

    def keep(self, field: str, batch: Mapping[str, Any]) -> list[Row]:
        """Compute what is kept of each row of a batch of the inputs that a field fills."""
        kept: dict[str, Any] = {}
        for name in self.fields[field]:
            kept |= {input_name: batch[input_name] for input_name in self._as_it_came[name]}
            if name in self._towers:
                kept |= self._run(self._towers[name], batch)
        return [
            {key: take(value, Index(torch.tensor([row]))) for key, value in kept.items()}
            for row in range(rows_of(kept))
        ]

    def ask(self, pairs: Sequence[Sequence[Row]]) -> Tensor:
        """Compute the output [pairs, ...] for rows that belong together, one kept row of each field.

        A row that several pairs have is handed on once: what looks at it makes keys and values of it once.
        """
        batch: dict[str, Any] = {}
        for side in zip(*pairs, strict=True):
            distinct = {id(row): row for row in side}
            number = {key: place for place, key in enumerate(distinct)}
            index = Index(torch.tensor([number[id(row)] for row in side], device=self._asker.device))
            for name in side[0]:
                if name in self._picked:
                    batch[name] = join_rows([row[name] for row in distinct.values()])
                    batch[_rows(name)] = index
                else:
                    batch[name] = join_rows([row[name] for row in side])
        return tensor_of(self._run(self._joint, batch)["value"])

    def _run(self, program: Compiled, batch: Mapping[str, Any]) -> dict[str, Any]:
        model, batch = self._asker.model, self._asker.with_tables(self._output, batch)
        with evaluating(model), torch.no_grad():
            results: dict[str, Any] = model(program.run, batch, Step(self._asker.blueprint.constants_and_starts()))
        return results


def join_rows(values: Sequence[Any]) -> Any:
    """Values of one kind as one with the rows of all, padded to the longest."""
    first = values[0]
    if isinstance(first, Text):
        longest = max(text.ids.shape[1] for text in values)
        ids = torch.cat([F.pad(text.ids, (0, longest - text.ids.shape[1]), value=text.pad) for text in values])
        return dataclasses.replace(_joined([dataclasses.replace(text, ids=text.lengths) for text in values]), ids=ids)
    if isinstance(first, Features):
        return _join_features(values)
    return _joined(values)


def _join_features(values: Sequence[Features]) -> Features:
    lengths = [value.features.shape[1] for value in values]
    longest = max(lengths)
    parts = tuple(_join_part([value.parts[place] for value in values]) for place in range(len(values[0].parts)))
    if len(parts) == 1:
        parts = (dataclasses.replace(parts[0], length=longest),)
    features = torch.cat(
        [F.pad(value.features, (0, 0, 0, longest - n)) for value, n in zip(values, lengths, strict=True)]
    )
    if values[0].valid is None and min(lengths) == longest:
        return Features(features, parts)
    return Features(
        features, parts, torch.cat([F.pad(_valid(value), (0, longest - value.features.shape[1])) for value in values])
    )


def _join_part(parts: Sequence[Part]) -> Part:
    texts = [part.text for part in parts if part.text is not None]
    return dataclasses.replace(parts[0], text=join_rows(texts) if texts else None)


def _valid(x: Features) -> Tensor:
    return x.valid if x.valid is not None else x.features.new_ones(x.features.shape[:2], dtype=torch.bool)


def _joined(values: Sequence[Any]) -> Any:
    return pytree.tree_map(lambda *leaves: torch.cat(leaves) if isinstance(leaves[0], Tensor) else leaves[0], *values)


def _joint(blueprint: CheckedBlueprint, output: str, result: Ref, kept: set[str]) -> Compiled:
    """Compile the program of an output to which the results of some calls are handed as inputs."""
    plan = blueprint.plan
    handed = [new for call in plan.calls for new in (_picked(call) if call.id in kept else (call,))]
    needed = {call.id for call in fragment(plan.replace(handed), [result])}
    cut = dataclasses.replace(blueprint, plan=plan.replace(call for call in handed if call.id in needed))
    return compile_plan(cut, output, {"value": result}, trainable=lambda _: False)


def _picked(call: Call) -> tuple[Call, Call, Call]:
    """In place of a call its results, whose rows are those of pictures or texts, and those of each pair among them."""
    name, target = _handed(call.id), RowSpace(_handed(call.id))
    own = dataclasses.replace(call, role="input", args=(), world=None)
    return (
        dataclasses.replace(own, id=name, target=name, type=dataclasses.replace(call.type, rows=target)),
        dataclasses.replace(own, id=_rows(name), target=_rows(name), type=IndexType(call.type.rows, points_at=target)),
        dataclasses.replace(own, role="index", args=(("x", Ref(name)), ("index", Ref(_rows(name))))),
    )


def _handed(call: str) -> str:
    return f"@{call}"


def _rows(handed: str) -> str:
    """Name what says which of these rows each pair has."""
    return f"{handed}:rows"


def before_softmax(blueprint: CheckedBlueprint, ref: Ref) -> Ref:
    """Find the scores that a value is the softmax of; the value itself, where it is no softmax."""
    call = blueprint.calls[ref.call]
    (scores,) = call.refs() if call.role == "function" and call.target == "softmax" else (ref,)
    return scores
