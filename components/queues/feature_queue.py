"""Features of earlier batches, as further negatives for contrastive losses."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.components.functions.gathered import gathered
from compose_vlp.errors import UserError
from compose_vlp.graph.types import RecordType
from compose_vlp.registry import DETACHED, Settings, component, inferred
from compose_vlp.values import Embedding, Number

NOBODY = -100
"""Id of the entries that a queue begins with."""


class Keys(NamedTuple):
    """The batch's rows first, the queue's after them; ids where ids were given."""

    image: Annotated[Embedding, "keys image_width"]
    text: Annotated[Embedding, "keys text_width"]
    id: Annotated[Number, "keys"] | None


@component("feature_queue", rows="batch", state="kept", draws="none")
class FeatureQueue(nn.Module):
    """The newest `size` pictures' and texts' features, oldest replaced first (He et al. 2020; ALBEF, section 3.2).

    Gives this process's batch and, after it, the queue as it was before the step; after a training step the rows of
    all processes enter together. It begins with random vectors of length one, whose ids are nobody's.
    """

    class Config(Settings):
        size: int = Field(65536, gt=0, description="entries; the batch of all processes divides it")
        image_width: int = inferred("image.width", description="features of a picture")
        text_width: int = inferred("text.width", description="features of a text")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        for name, width in (("image", config.image_width), ("text", config.text_width)):
            self.register_buffer(name, F.normalize(torch.randn(config.size, width), dim=1))
        self.register_buffer("id", torch.full((config.size,), NOBODY))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))
        self.pending: tuple[Embedding, Embedding, Number | None] | None = None

    def forward(
        self,
        image: Annotated[Embedding, "rows image_width", DETACHED],
        text: Annotated[Embedding, "rows text_width", DETACHED],
        id: Annotated[Number, "rows"] | None = None,  # noqa: A002  the name that readers use: keys.id
    ) -> Keys:
        """Features `[batch, width]` each to `[batch + size, width]`; ids `[batch]` to `[batch + size]`.

        Raises:
            UserError: the batch does not divide the queue.
        """
        self._divides(len(image.features))
        image, text = (replace(x, features=x.features.detach()) for x in (image, text))
        if self.training:
            self.pending = (image, text, id)
        ids = None if id is None else Number(torch.cat((id.values, self._buffer("id"))))
        return Keys(self._behind(image, "image"), self._behind(text, "text"), ids)

    @torch.no_grad()
    def commit(self) -> None:
        """Let what the last forward of a training step saw enter; the runtime calls this once a step."""
        if self.pending is None:
            return
        image, text, ids = self.pending
        self.pending = None
        rows = {"image": gathered(image).features, "text": gathered(text).features}
        if ids is not None:
            rows["id"] = gathered(ids).values
        count = len(rows["image"])
        self._divides(count)
        pointer = self._buffer("pointer")
        places = (pointer + torch.arange(count, device=pointer.device)) % self.config.size
        for name, entering in rows.items():
            buffer = self._buffer(name)
            buffer[places] = entering.to(buffer.dtype)
        pointer.copy_((pointer + count) % self.config.size)

    def _behind(self, batch: Embedding, name: str) -> Embedding:
        queue = self._buffer(name).to(batch.features.dtype)
        return Embedding(torch.cat((batch.features, queue)), queued=len(queue))  # a copy: what enters changes it not

    def _buffer(self, name: str) -> Tensor:
        buffer: Tensor = getattr(self, name)
        return buffer

    def _divides(self, rows: int) -> None:
        size = self.config.size
        if self.training and size % rows:
            near = [n for n in range(rows, 0, -1) if size % n == 0][:1]
            raise UserError(
                f"a batch of {rows} does not divide the queue's size {size}",
                hints=[f"batch: {near[0]}", f"size: {max(size // rows, 1) * rows}"],
            )

    @staticmethod
    def output(config: Config, ports: Mapping[str, Any]) -> RecordType:
        rows = replace(ports["image"].rows, queue=f"of {config.size}")
        return RecordType(fields={name: replace(ports[name], rows=rows) for name in ports})
