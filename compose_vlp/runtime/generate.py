"""Running a `generate` output: prepare once, then word by word with keys and values kept, or by recomputing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from compose_vlp.compiler.incremental import Incremental
from compose_vlp.compiler.model import Model, Step
from compose_vlp.compiler.support import take
from compose_vlp.runtime.modes import evaluating
from compose_vlp.runtime.search import Search, search
from compose_vlp.values import Index, Logits, Text, rows_of
from compose_vlp.values.cache import Cache


class _Program(ABC):
    """A `Foreteller` by a program's logits."""

    def begin(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The texts that begin with `ids` [rows, begun] as the program reads them, and scores of their next word.

        The logits stand on them: they hold the words that the program puts in (`prompt`).
        """
        logits = self._advance(ids)
        return (ids if logits.text is None else logits.text.ids), logits.scores[:, -1]

    def step(self, ids: Tensor) -> Tensor:
        """Scores [rows, vocabulary] of the word after `ids` [rows, new]."""
        return self._advance(ids).scores[:, -1]

    @abstractmethod
    def _advance(self, ids: Tensor) -> Logits:
        """Logits of words of which `ids` [rows, new] are the last."""


class Cached(_Program):
    """A `Foreteller` that feeds the new words only and keeps keys and values."""

    def __init__(self, model: Model, programs: Incremental, batch: Mapping[str, Any], how: Search, frame: int) -> None:
        self._model, self._programs, self._pad, self._frame = model, programs, how.pad, frame
        self._length = 0
        given = programs.prepare(model, batch, Step())
        if how.beams > 1:
            given = {name: _repeated(value, how.beams) for name, value in given.items()}
        self._given = {f"@{name}": value for name, value in given.items()}
        self._step = Step(caches={call: Cache() for call in programs.cached})

    @override
    def _advance(self, ids: Tensor) -> Logits:
        lengths = torch.full((ids.shape[0],), ids.shape[1], device=ids.device)
        words = Text(ids, lengths, self._frame, self._pad, offset=self._length)
        batch = {**self._given, **as_rows(self._programs.over, words)}
        logits: Logits = self._programs.advance(self._model, batch, self._step)["logits"]
        self._length += ids.shape[1]
        return logits

    def reorder(self, rows: Tensor) -> None:
        for cache in self._step.caches.values():
            cache.reorder(rows)


class Recomputed(_Program):
    """A `Foreteller` that runs the whole text again at every word: the reference for `Cached`."""

    def __init__(self, model: Model, programs: Incremental, batch: Mapping[str, Any], how: Search, frame: int) -> None:
        self._model, self._programs, self._pad, self._frame = model, programs, how.pad, frame
        beams = how.beams
        self._batch = {n: _repeated(v, beams) if beams > 1 and n != programs.over else v for n, v in batch.items()}
        self._ids: Tensor | None = None

    @override
    def _advance(self, ids: Tensor) -> Logits:
        self._ids = ids if self._ids is None else torch.cat((self._ids, ids), 1)
        lengths = torch.full((ids.shape[0],), self._ids.shape[1], device=ids.device)
        words = Text(self._ids, lengths, self._frame, self._pad)
        whole = self._programs.whole.run
        logits: Logits = whole(self._model, {**self._batch, **as_rows(self._programs.over, words)}, Step())["logits"]
        return logits

    def reorder(self, rows: Tensor) -> None:
        if self._ids is not None:
            self._ids = self._ids[rows]


def as_rows(over: str, words: Text) -> dict[str, Any]:
    """The texts that are written, one a row, also where the input has several a record (`.owner`)."""
    return {over: words, f"{over}.owner": Index(torch.arange(len(words.ids), device=words.ids.device))}


def _repeated(value: Any, times: int) -> Any:
    return take(value, Index(torch.arange(rows_of(value)).repeat_interleave(times)))


@torch.no_grad()
def generate(
    model: Model,
    programs: Incremental,
    batch: Mapping[str, Any],
    start: Tensor,
    how: Search,
    *,
    frame: int,
    cached: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Texts [rows, length] that complete `start` [rows, begun] for the other inputs in `batch`; eval mode meanwhile.

    Lengths count a prompt that the program puts in; the texts leave it out.
    """
    with evaluating(model):
        foreteller = (Cached if cached else Recomputed)(model, programs, batch, how, frame)
        return search(foreteller, start, how, generator)
