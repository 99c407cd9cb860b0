"""Other words at the start of a text."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Protocol

import torch

from compose_vlp.graph.types import TextType
from compose_vlp.registry import EACH, OfTokenizer, function
from compose_vlp.values import Text


class Words(Protocol):
    """What these functions ask of the text's tokenizer, which the compiled program hands them."""

    @property
    def begin_id(self) -> int | None: ...

    @property
    def end_id(self) -> int | None: ...

    def id_of(self, token: str) -> int: ...

    def encode(self, text: str, max_length: int) -> list[int]: ...


@function("begin")
def begin(
    text: Annotated[Text, "rows length vocab_size", EACH], token: Annotated[str, OfTokenizer()], *, tokenizer: Words
) -> Annotated[Text, "rows length vocab_size"]:
    """The text with this token instead of its first one (BLIP's `[DEC]` and `[ENC]`).

    Words that go on with a text (generation) are left as they are.
    """
    if text.offset:
        return text
    first = torch.full_like(text.ids[:, :1], tokenizer.id_of(token))
    return replace(text, ids=torch.cat((first, text.ids[:, 1:]), 1))


def _prompted(_: None, ports: Mapping[str, Any]) -> TextType:
    """The text, padded otherwise: its longest of a batch has more words."""
    text: TextType = ports["text"]
    return replace(text, padding=f"{text.padding} after {ports['words']!r}" if text.padding else "")


@function("prompt", output=_prompted)
def prompt(
    words: str, text: Annotated[Text, "rows length vocab_size", EACH], *, tokenizer: Words
) -> Annotated[Text, "rows length vocab_size"]:
    """The text with these words after its first token; nobody has to foretell them (`given`).

    What goes beyond the frame is cut, each text's last token (its end) kept. Words that go on with a text (generation)
    stand so many places later.
    """
    ids = tokenizer.encode(words, text.frame)
    ids = ids[ids[:1] == [tokenizer.begin_id] :]
    ids = ids[: len(ids) - (ids[-1:] == [tokenizer.end_id])]
    if text.offset:
        return replace(text, offset=text.offset + len(ids))
    added = torch.tensor(ids, dtype=text.ids.dtype).to(text.ids.device, non_blocking=True).expand(text.ids.shape[0], -1)
    longer = torch.cat((text.ids[:, :1], added, text.ids[:, 1:]), 1)[:, : text.frame]
    lengths = text.lengths + len(ids)
    last = text.ids.gather(1, (text.lengths - 1).clamp(min=0)[:, None])
    cut = (lengths > text.frame)[:, None] & (torch.arange(longer.shape[1], device=longer.device) == text.frame - 1)
    given = torch.full_like(text.lengths, 1 + len(ids))
    return replace(text, ids=torch.where(cut, last, longer), lengths=lengths.clamp(max=text.frame), given=given)
