"""Embeddings of a source's pictures and of any texts, in blocks: what retrieval and zero-shot classification share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import torch
from torch import Tensor

from compose_vlp.data.collate import Collator
from compose_vlp.data.source import BadRecord, Source
from compose_vlp.errors import UserError
from compose_vlp.evaluation.batches import batches, finite, need
from compose_vlp.runtime.inference.outputs import Asker

OUTPUTS: Final = ("image_embedding", "text_embedding")
"""The outputs that these come from."""
TEXTS_AT_ONCE = 256

Tick: TypeAlias = Callable[[int], None]
"""Told how many records are done."""


def silent(_: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Embedder:
    """A model that embeds pictures and texts in one space; `image` and `text` are the fields of records that it
    reads."""

    asker: Asker
    image: str
    text: str

    @classmethod
    def of(cls, asker: Asker, task: str) -> Embedder:
        """Make the embedder from a blueprint's outputs.

        Raises:
            UserError: an output is missing, or reads anything but one picture or one text.
        """
        need(asker, task, *OUTPUTS)
        fields: list[str] = []
        for output, kind in zip(OUTPUTS, ("image", "text"), strict=True):
            types = asker.types_read(output)
            if list(types.values()) != [kind]:
                raise UserError(f"{task} needs an output {output!r} of one {kind}; it reads {', '.join(types)}")
            fields += types
        return cls(asker, *fields)

    def pictures(self, source: Source, count: int, tick: Tick = silent) -> tuple[list[int], Tensor]:
        """Record numbers and embeddings [pictures, width] of the first `count` records; broken pictures are left out.

        Raises:
            UserError: no picture can be read.
        """
        rows: list[int] = []
        embedded: list[Tensor] = []
        for numbers, values in batches(self.asker, source, self.asker.inputs_read("image_embedding"), count):
            embedded.append(
                finite(self.asker.value_of_batch("image_embedding", values), "image_embedding").float().cpu()
            )
            rows += numbers
            tick(len(rows))
        if not rows:
            raise UserError(f"none of the first {count} records has a picture that can be read")
        return rows, torch.cat(embedded)

    def readable(self, text: object) -> bool:
        """Tell whether anything is left of a text once it is in the tokenizer's words."""
        try:
            self._collator.read({self.text: text})
        except BadRecord:
            return False
        return True

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings [texts, width] of texts that are `readable`."""
        collator, embedded = self._collator, []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            items = [collator.read({self.text: text}) for text in texts[start : start + TEXTS_AT_ONCE]]
            values = {name: value.to(self.asker.device) for name, value in collator.stack(items).items()}
            embedded.append(finite(self.asker.value_of_batch("text_embedding", values), "text_embedding").float().cpu())
        return torch.cat(embedded)

    @cached_property
    def _collator(self) -> Collator:
        return self.asker.collator(self.asker.inputs_read("text_embedding"))
