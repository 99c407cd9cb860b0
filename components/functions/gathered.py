"""The rows of all processes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, overload

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from compose_vlp.errors import UserError
from compose_vlp.graph.types import SequenceType, TextType
from compose_vlp.registry import EACH, function
from compose_vlp.values import Embedding, Image, Number, Part, Sequence, Text
from compose_vlp.values.processes import all_rows, all_rows_with_gradient, together


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
    if not together():
        return x
    if isinstance(x, Embedding):
        features = all_rows_with_gradient(x.features)
        return Embedding(features, own=dist.get_rank() * len(x.features), gathered=True)
    if isinstance(x, Image):
        return replace(x, pixels=all_rows_with_gradient(x.pixels))
    if isinstance(x, Text):
        return _texts(x)
    if isinstance(x, Sequence):
        return _sequences(x)
    return replace(x, values=all_rows(x.values))


def _texts(x: Text) -> Text:
    padded = F.pad(x.ids, (0, _lengths(x.ids)[1] - x.ids.shape[1]), value=x.pad)
    given = None if x.given is None else all_rows(x.given)
    return replace(x, ids=all_rows(padded), lengths=all_rows(x.lengths), given=given)


def _sequences(x: Sequence) -> Sequence:
    shortest, longest = _lengths(x.features)
    if shortest < longest and len(x.parts) > 1:
        raise UserError(
            "a sequence of several parts, of other lengths in other processes, cannot be gathered",
            hints=["gather its parts, and join them then"],
        )
    parts = _parts(x, longest)
    if x.valid is None and shortest == longest:
        return Sequence(all_rows_with_gradient(x.features), parts)
    missing = longest - x.features.shape[1]
    known = torch.ones(x.features.shape[:2], dtype=torch.bool, device=x.features.device) if x.valid is None else x.valid
    features = all_rows_with_gradient(F.pad(x.features, (0, 0, 0, missing)))
    return Sequence(features, parts, all_rows(F.pad(known, (0, missing), value=False)))


def _parts(x: Sequence, length: int) -> tuple[Part, ...]:
    parts = [replace(part, text=_texts(part.text) if part.text is not None else None) for part in x.parts]
    return (replace(parts[0], length=length),) if len(parts) == 1 else tuple(parts)


def _lengths(x: Tensor) -> tuple[int, int]:
    """The smallest and the largest second dimension `[rows, length, ...]` of all processes."""
    ends = torch.tensor([-x.shape[1], x.shape[1]], device=x.device)
    dist.all_reduce(ends, op=dist.ReduceOp.MAX)
    return -int(ends[0]), int(ends[1])
