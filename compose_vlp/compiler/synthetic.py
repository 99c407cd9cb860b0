"""A batch of the right shapes and no meaning, for measuring and trying programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Plan
from compose_vlp.graph.types import ImageType, IndexType, LogitsType, NumberType, TextType, ValueType
from compose_vlp.values import Image, Index, Number, Text, Value


def synthetic_batch(plan: Plan, rows: int, device: torch.device | str = "meta", seed: int = 0) -> dict[str, Any]:
    """Random pictures and words for every input that a plan reads: `rows` of each, texts as long as their frame.

    Labels go through the classes of the scores that they are compared with.
    """
    generator = None if str(device) == "meta" else torch.Generator(device).manual_seed(seed)
    kinds: dict[str, ValueType] = {}
    for call in plan.calls:
        if call.role == "input":
            kinds[call.target] = call.type
            kinds |= {f"{call.target}.{name}": kind for name, kind in call.type.members().items()}
    batch = {name: _value(kind, rows, device, generator) for name, kind in kinds.items()}
    for name, classes in _classes(plan).items():
        batch[name] = Number(torch.arange(rows, device=device) % classes)
    return batch


def _classes(plan: Plan) -> dict[str, int]:
    """Count the classes of each input that is a label: its own, or those of the scores beside it in a loss."""
    inputs = {call.id: call for call in plan.calls if call.role == "input" and isinstance(call.type, NumberType)}
    counts: dict[str, int] = {}
    for call in plan.calls:
        types = [plan.type_of(ref) for ref in call.refs()] if call.role == "loss" else []
        scored = [kind.classes for kind in types if isinstance(kind, LogitsType | NumberType) and kind.classes]
        for ref in call.refs() if scored else ():
            if ref.call in inputs and not ref.path:
                name = inputs[ref.call].target
                counts[name] = min([*scored, counts[name]] if name in counts else scored)
    return counts


def _value(kind: ValueType, rows: int, device: torch.device | str, generator: torch.Generator | None) -> Value:
    if isinstance(kind, ImageType):
        size = kind.size or 224
        shape = (rows, 3, size, size)
        return Image(
            torch.empty(shape, device="meta")
            if generator is None
            else torch.randn(shape, generator=generator, device=device)
        )
    if isinstance(kind, TextType):
        length, vocabulary = kind.length or 16, kind.vocab_size or 16
        if generator is None:
            whole = torch.empty((rows, length), dtype=torch.long, device="meta")
            return Text(whole, torch.empty(rows, dtype=torch.long, device="meta"), length)
        ids = torch.randint(1, vocabulary, (rows, length), device=device, generator=generator)
        return Text(ids, torch.full((rows,), length, device=device), length)
    numbers = torch.arange(rows, device=device)  # as ids all different
    return Index(numbers) if isinstance(kind, IndexType) else Number(numbers)


def synthetic_tokenizers(blueprint: CheckedBlueprint) -> dict[str, Any]:
    """Make what stands in for tokenizers that have learnt nothing yet, by component."""
    return {
        name: StandIn(getattr(part.config, "vocab_size", None) or SMALL)
        for name, part in blueprint.components.items()
        if part.kind.category == "tokenizer"
    }


SMALL = 16
"""Words of a vocabulary whose size only a file knows."""


@dataclass(frozen=True)
class StandIn:
    """The least that programs ask of a tokenizer: each token has an id, each word is one token."""

    vocab_size: int
    pad_id: int = 0
    begin_id: int = 1
    end_id: int = 2
    mask_id: int = 3

    @property
    def highest_id(self) -> int:
        return self.vocab_size - 1

    @property
    def special(self) -> dict[str, int]:
        return {"[PAD]": self.pad_id, "[CLS]": self.begin_id, "[SEP]": self.end_id, "[MASK]": self.mask_id}

    def vocabulary(self) -> dict[str, int]:
        return {**self.special, "##s": len(self.special)}

    def id_of(self, token: str) -> int:
        return self.vocabulary().get(token, len(self.special) + 1)

    def encode(self, text: str, max_length: int) -> list[int]:
        return [self.begin_id, *(self.id_of(word) for word in text.split()), self.end_id][:max_length]
