"""Running a `generate` output: prepare once, then word by word with keys and values kept, or by recomputing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from compose_vlp.compiler.incremental import LOGITS, Incremental
from compose_vlp.compiler.model import Model, Step
from compose_vlp.compiler.program_runtime import take
from compose_vlp.runtime.inference.search import Search, search
from compose_vlp.runtime.modes import evaluating
from compose_vlp.values import Index, Logits, Text
from compose_vlp.values.cache import Cache


class _Program(ABC):
    """A `Foreteller` by a program's logits."""

    def __init__(self, model: Model, programs: Incremental, how: Search, frame: int) -> None:
        self._model, self._programs, self._pad, self._frame, self._mask = model, programs, how.pad, frame, how.mask

    def begin(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Begin texts with `ids` [rows, begun]; gives them as the program reads them, and scores of their next word.

        The logits stand on them: they hold the words that the program puts in (`prompt`).
        """
        logits = self._advance(ids)
        read = ids if logits.text is None else logits.text.ids
        return (read if self._mask is None else read[:, :-1]), logits.scores[:, -1]

    def step(self, ids: Tensor) -> Tensor:
        """Scores [rows, vocabulary] of the word after `ids` [rows, new]."""
        return self._advance(ids).scores[:, -1]

    @abstractmethod
    def _advance(self, ids: Tensor) -> Logits:
        """Logits of words of which `ids` [rows, new] are the last, and of the mask behind them where there is one."""

    def _words(self, ids: Tensor, offset: int = 0) -> Text:
        """Words as programs read them, the mask behind them."""
        if self._mask is not None:
            ids = torch.nn.functional.pad(ids, (0, 1), value=self._mask)
        lengths = torch.full((ids.shape[0],), ids.shape[1], device=ids.device)
        return Text(ids, lengths, self._frame, self._pad, offset=offset)


class Cached(_Program):
    """A `Foreteller` that feeds the new words only and keeps keys and values; those of the mask are taken out again."""

    def __init__(
        self, model: Model, programs: Incremental, batch: Mapping[str, Any], start: Tensor, how: Search, frame: int
    ) -> None:
        super().__init__(model, programs, how, frame)
        self._length = 0
        given = programs.prepare(model, {**batch, **owners(programs.over, start)}, Step(programs.params))
        self._given = _repeated({**batch, **given}, start, how.beams, programs)
        self._step = Step(programs.params, {call: Cache() for call in programs.cached})

    @override
    def _advance(self, ids: Tensor) -> Logits:
        program = self._programs.advance if self._length else self._programs.begin
        words = {self._programs.over: self._words(ids, self._length)}
        results = program(self._model, {**self._given, **words}, self._step)
        logits: Logits = results.pop(LOGITS)
        self._given |= results
        self._length += ids.shape[1]
        if self._mask is not None:
            for cache in self._step.caches.values():
                cache.drop(1)
        return logits

    def reorder(self, rows: Tensor) -> None:
        """Beams are put in another order within their row, in which all that was given is the same."""
        for cache in self._step.caches.values():
            cache.reorder(rows)


class Recomputed(_Program):
    """A `Foreteller` that runs the whole text again at every word: the reference for `Cached`."""

    def __init__(
        self, model: Model, programs: Incremental, batch: Mapping[str, Any], start: Tensor, how: Search, frame: int
    ) -> None:
        super().__init__(model, programs, how, frame)
        self._batch = _repeated(batch, start, how.beams, programs)
        self._ids: Tensor | None = None

    @override
    def _advance(self, ids: Tensor) -> Logits:
        self._ids = ids if self._ids is None else torch.cat((self._ids, ids), 1)
        batch = {**self._batch, self._programs.over: self._words(self._ids)}
        logits: Logits = self._programs.whole.run(self._model, batch, Step(self._programs.params))[LOGITS]
        return logits

    def reorder(self, rows: Tensor) -> None:
        if self._ids is not None:
            self._ids = self._ids[rows]


def owners(over: str, texts: Tensor) -> dict[str, Index]:
    """One of these `texts` [rows, length] a row, also where the input has several a record (`.owner`)."""
    return {f"{over}.owner": Index(torch.arange(len(texts), device=texts.device))}


def _repeated(values: Mapping[str, Any], start: Tensor, times: int, programs: Incremental) -> dict[str, Any]:
    """Values with a row for every beam of a row, one after the other; a table's lines as they are."""
    rows = torch.arange(len(start), device=start.device).repeat_interleave(times)
    repeated = dict(values)
    if times > 1:
        repeated |= {name: take(value, Index(rows)) for name, value in values.items() if name not in programs.tables}
    return {**repeated, **owners(programs.over, rows)}


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
        foreteller = (Cached if cached else Recomputed)(model, programs, batch, start, how, frame)
        return search(foreteller, start, how, generator)
