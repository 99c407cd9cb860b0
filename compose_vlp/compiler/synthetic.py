"""A batch of the right shapes and no meaning, for measuring and trying programs."""

from __future__ import annotations

from typing import Any

import torch

from compose_vlp.graph.plan import Plan
from compose_vlp.graph.types import ImageType, TextType, ValueType
from compose_vlp.values import Image, Number, Text, Value


def synthetic_batch(plan: Plan, rows: int, device: torch.device | str = "meta", seed: int = 0) -> dict[str, Any]:
    """Random pictures and words for every input that a plan reads: `rows` of each, texts as long as their frame."""
    generator = None if str(device) == "meta" else torch.Generator(device).manual_seed(seed)
    inputs = [call for call in plan.calls if call.role == "input"]
    return {call.target: _value(call.type, rows, device, generator) for call in inputs}


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
    return Number(torch.empty(rows, dtype=torch.long, device=device).zero_())
