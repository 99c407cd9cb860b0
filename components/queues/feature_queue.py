"""Features of earlier batches, as further negatives for contrastive losses."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.errors import UserError
from compose_vlp.graph.kinds import Clash
from compose_vlp.graph.types import EmbeddingType, NumberType, RecordType
from compose_vlp.protocols import Keeps
from compose_vlp.registry import DETACHED, Settings, component, inferred
from compose_vlp.values import Embedding, Number, Record
from compose_vlp.values.processes import all_rows_at_once, together

NOBODY = -100
"""Id of the entries that a queue begins with."""

TAKEN = ("id", "pointer")


@component("feature_queue", rows="batch", state="kept", draws="none")
class FeatureQueue(nn.Module, Keeps):
    """The newest `size` features, oldest replaced first: one queue for each name, all moving together (MoCo, He et al.
    2020; ALBEF, Li et al. 2021, 3.2).

    Gives, under each name, the batch and, after it, the queue as it was before the step: this process's batch, or that
    of all processes where it is `gathered`. After a training step the rows of all processes enter. It begins with
    random vectors of length one, whose ids are nobody's.
    """

    class Config(Settings):
        size: int = Field(65536, gt=0, description="entries; the batch of all processes divides it")
        queues: tuple[str, ...] = Field(("image", "text"), min_length=1, description="names of what is kept")
        width: int = inferred(description="features of an entry")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        for name in config.queues:
            self.register_buffer(name, F.normalize(torch.randn(config.size, config.width), dim=1))
        self.register_buffer("id", torch.full((config.size,), NOBODY))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))
        self.pending: dict[str, Embedding | Number] = {}

    def forward(
        self,
        id: Annotated[Number, "rows"] | None = None,  # noqa: A002 (the name that readers use: keys.id)
        **features: Annotated[Embedding, "rows width", DETACHED],
    ) -> Record:
        """Features `[batch, width]` each to `[batch + size, width]`; ids `[batch]` to `[batch + size]`.

        Raises:
            UserError: the batch does not divide the queue.
        """
        batch: dict[str, Any] = {n: replace(x, features=x.features.detach()) for n, x in features.items()}
        if self.training:
            self._divides(next(iter(batch.values())))
            self.pending = batch if id is None else {**batch, "id": id}
        keys: dict[str, Any] = {name: self._behind(embedding, name) for name, embedding in batch.items()}
        if id is not None:
            keys["id"] = Number(torch.cat((id.values, self._buffer("id"))))
        return Record(**keys)

    @torch.no_grad()
    def commit(self) -> None:
        """Let what the last forward of a training step saw enter; the runtime calls this once a step."""
        if not self.pending:
            return
        pending, self.pending = self.pending, {}
        gathered = any(
            isinstance(entry, Embedding) and entry.gathered for entry in pending.values()
        )  # then the ids are too
        pointer, count = self._buffer("pointer"), 0
        rows = [entry.values if isinstance(entry, Number) else entry.features for entry in pending.values()]
        if together() and not gathered:
            rows = all_rows_at_once(rows)
        for name, entering in zip(pending, rows, strict=True):
            count = len(entering)
            places = (pointer + torch.arange(count, device=pointer.device)) % self.config.size
            buffer = self._buffer(name)
            buffer[places] = entering.to(buffer.dtype)
        pointer.copy_((pointer + count) % self.config.size)

    def _behind(self, batch: Embedding, name: str) -> Embedding:
        queue = self._buffer(name).to(batch.features.dtype)
        # A copy: what enters changes it not.
        return replace(batch, features=torch.cat((batch.features, queue)), queued=len(queue))

    def _buffer(self, name: str) -> Tensor:
        buffer: Tensor = getattr(self, name)
        return buffer

    def _divides(self, batch: Embedding) -> None:
        processes = dist.get_world_size() if together() else 1
        rows = len(batch.features) * (1 if batch.gathered else processes)
        for clash in self.check_batch(self.config, rows, processes):
            raise UserError(clash.message, hints=clash.hints)

    @staticmethod
    def check_batch(config: Config, rows: int, processes: int = 1) -> tuple[Clash, ...]:
        """A clash where the batch of all processes does not divide the queue."""
        if config.size % rows == 0:
            return ()
        near = next((n for n in range(rows, 0, -processes) if config.size % n == 0), None)
        hints = (*([f"batch: {near}"] if near else []), f"size: {max(config.size // rows, 1) * rows}")
        return (Clash(f"a batch of {rows} does not divide the queue's size {config.size}", ("size",), hints),)

    @staticmethod
    def output(config: Config, ports: Mapping[str, Any]) -> RecordType:
        given = {name: value for name, value in ports.items() if isinstance(value, EmbeddingType)}
        if given.keys() != set(config.queues):
            raise UserError(
                f"keeps {', '.join(config.queues)}; given are {', '.join(given)}",
                hints=[f"queues: [{', '.join(given)}]"],
            )
        rows = replace(next(iter(given.values())).rows, queue="kept")
        fields = {
            name: replace(ports[name], rows=rows)
            for name in ports
            if isinstance(ports[name], EmbeddingType | NumberType)
        }
        return RecordType(fields=fields)

    @staticmethod
    def check(config: Config) -> tuple[Clash, ...]:
        return tuple(
            Clash(f"a queue cannot be called {name!r}: the component keeps its own under that name", ("queues",))
            for name in config.queues
            if name in TAKEN or hasattr(nn.Module, name) or not name.isidentifier()
        )
