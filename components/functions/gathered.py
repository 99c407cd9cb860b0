"""The rows of all processes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, overload

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from compose_vlp.errors import UserError
from compose_vlp.graph.types import SequenceType, TextType
from compose_vlp.registry import EACH, function
from compose_vlp.values import Embedding, Image, Number, Sequence, Text, Value
from compose_vlp.values.processes import all_rows_at_once, together


def _gathered(_: None, ports: Mapping[str, Any]) -> Any:
    x = ports["x"]
    rows = replace(x.rows, gathered=True)
    if isinstance(x, TextType):
        return replace(_longer(x), rows=rows)
    if isinstance(x, SequenceType):
        return replace(x, rows=rows, parts=tuple(replace(part, text=_longer(part.text)) for part in x.parts))
    return replace(x, rows=rows)


@overload
def _longer(text: TextType) -> TextType: ...
@overload
def _longer(text: None) -> None: ...
def _longer(text: TextType | None) -> TextType | None:
    """A text that is padded to the longest of all processes."""
    return replace(text, padding=f"gathered {text.padding}") if text is not None and text.padding else text


@function("gathered", rows="batch", output=_gathered)
def gathered(
    x: Annotated[Embedding, "rows width", EACH]
    | Annotated[Image, "rows size", EACH]
    | Annotated[Text, "rows length vocab_size", EACH]
    | Annotated[Sequence, "rows tokens width", EACH]
    | Annotated[Number, "rows"],
) -> Embedding | Image | Text | Sequence | Number:
    """The rows of all processes in the order of their ranks; with one process, what came in.

    Gradients flow back to the process that a row came from, summed over all that used it. Every process has equally
    many rows; texts, and sequences that stand on one, are padded to the longest of all processes.
    """
    whole: Embedding | Image | Text | Sequence | Number = gather(x)[0]
    return whole


def gather(*values: Value) -> list[Any]:
    """`gathered` for each of several values, in one collective; where some have lengths, these travel first."""
    if not together():
        return list(values)
    lengths = _extremes([tensor for value in values for tensor in _measured(value)])
    measured = iter(lengths)
    padded = [_padded(value, [next(measured) for _ in _measured(value)]) for value in values]
    rows = iter(all_rows_at_once([tensor for tensors, _ in padded for tensor in tensors]))
    return [whole([next(rows) for _ in tensors]) for tensors, whole in padded]


Padded = tuple[list[Tensor], Callable[[list[Tensor]], Any]]
"""The tensors of a value as they travel, and what makes the value of all processes of those that came."""


def _measured(x: Value) -> list[Tensor]:
    """The tensors `[rows, length, ...]` of a value, of which each process may have another length."""
    if isinstance(x, Text):
        return [x.ids]
    return [x.features, *(text.ids for text in _texts(x))] if isinstance(x, Sequence) else []


def _padded(x: Value, lengths: list[tuple[int, int]]) -> Padded:
    """Make a value ready to travel; `lengths` are the shortest and the longest of all processes of what is measured."""
    if isinstance(x, Embedding):
        own = dist.get_rank() * len(x.features)
        return [x.features], lambda rows: Embedding(rows[0], own=own, gathered=True)
    if isinstance(x, Image):
        return [x.pixels], lambda rows: replace(x, pixels=rows[0])
    if isinstance(x, Text):
        return _text(x, lengths[0][1])
    if isinstance(x, Sequence):
        return _sequence(x, *lengths)
    assert isinstance(x, Number), "what else the ports take"
    return [x.values], lambda rows: replace(x, values=rows[0])


def _text(x: Text, longest: int) -> Padded:
    ids = F.pad(x.ids, (0, longest - x.ids.shape[1]), value=x.pad)
    more = [] if x.given is None else [x.given]
    return [ids, x.lengths, *more], lambda rows: replace(
        x, ids=rows[0], lengths=rows[1], given=rows[2] if more else None
    )


def _sequence(x: Sequence, own: tuple[int, int], *of_texts: tuple[int, int]) -> Padded:
    shortest, longest = own
    if shortest < longest and len(x.parts) > 1:
        raise UserError(
            "a sequence of several parts, of other lengths in other processes, cannot be gathered",
            hints=["gather its parts, and join them then"],
        )
    tensors = [x.features]
    if x.valid is not None or shortest < longest:
        missing = longest - x.features.shape[1]
        known = x.features.new_ones(x.features.shape[:2], dtype=torch.bool) if x.valid is None else x.valid
        tensors = [F.pad(x.features, (0, 0, 0, missing)), F.pad(known, (0, missing), value=False)]
    texts = [_text(text, length) for text, (_, length) in zip(_texts(x), of_texts, strict=True)]

    def whole(rows: list[Tensor]) -> Sequence:
        features, *valid = (rows.pop(0) for _ in range(len(tensors)))
        made = iter([join([rows.pop(0) for _ in sent]) for sent, join in texts])
        parts = [part if part.text is None else replace(part, text=next(made)) for part in x.parts]
        if len(parts) == 1:
            parts = [replace(parts[0], length=longest)]
        return Sequence(features, tuple(parts), *valid)

    return [*tensors, *(tensor for sent, _ in texts for tensor in sent)], whole


def _texts(x: Sequence) -> list[Text]:
    return [part.text for part in x.parts if part.text is not None]


def _extremes(tensors: list[Tensor]) -> list[tuple[int, int]]:
    """The smallest and the largest second dimension of each, over all processes."""
    if not tensors:
        return []
    own = [(-tensor.shape[1], tensor.shape[1]) for tensor in tensors]
    ends = torch.tensor(own, device=tensors[0].device)
    dist.all_reduce(ends, op=dist.ReduceOp.MAX)
    return [(-least, most) for least, most in ends.tolist()]
