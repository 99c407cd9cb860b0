"""Ranking given texts by how likely a model finds them: `rank` outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from compose_vlp.blueprint.inputs import TextInput
from compose_vlp.blueprint.sections import Rank
from compose_vlp.compiler.incremental import LOGITS, compile_prepared
from compose_vlp.compiler.model import Step
from compose_vlp.compiler.program_runtime import take
from compose_vlp.data.tables import read_table
from compose_vlp.errors import UserError
from compose_vlp.runtime.inference.generate import owners
from compose_vlp.runtime.inference.outputs import NO_TABLES, Asker, Tables
from compose_vlp.runtime.modes import evaluating
from compose_vlp.values import Index, Logits, Text, rows_of

TEXTS_AT_ONCE: Final = 128
"""Texts that are judged at once: ten words each over a vocabulary of 30,000 take 160 MB of scores."""


@dataclass(frozen=True)
class Ranked:
    """Of each row the texts that were judged, best first: `texts` [rows, judged] are lines of the table, `scores`
    [rows, judged] their log-probabilities (smoothed ones, where the output says `label_smoothing`)."""

    texts: Tensor
    scores: Tensor


class Ranker:
    """A `rank` output: log p of each text of a table, for each row (ALBEF, 3.4; BLIP, appendix A).

    Where the output says `top`, only so many are judged as whole texts, those of the likeliest first words; the first
    word is then read once more from the whole text, as in the official code. With `label_smoothing` the whole texts are
    judged by a smoothed loss: `1 - s` times a word's log-probability and `s` times the mean of all words'.

    Args:
        asker: a model and its blueprint.
        output: an output of the form `rank`.
        tables: texts that stand in the place of a table's, by input; those that are chosen among are a table too.
    """

    def __init__(self, asker: Asker, output: str, tables: Tables = NO_TABLES) -> None:
        blueprint = asker.blueprint
        entry = blueprint.outputs[output]
        if not isinstance(entry.settings, Rank) or entry.among is None:
            raise UserError(f"output {output!r} of {blueprint.name} ranks no texts")
        table = blueprint.inputs[entry.among]
        assert isinstance(table, TextInput), "the checker lets tables alone be ranked"
        self.asker, self._output, self._settings, self._tables = asker, output, entry.settings, tables
        self.texts: tuple[str, ...] = tuple(read_table(table, tables.get(entry.among))[0])
        """The texts that are ranked, by line."""
        self._programs = compile_prepared(blueprint, output)
        self._over = self._programs.over
        self._candidates: Text = asker.table(entry.among, tables.get(entry.among))[entry.among]
        self._top = min(entry.settings.top or len(self.texts), len(self.texts))

    def rank(self, batch: Mapping[str, Any]) -> Ranked:
        """Rank the texts for each row of a batch, the likeliest first."""
        read = self.asker.inputs_read(self._output)
        rows = rows_of([batch[name] for name in read]) if read else 1
        batch = {name: value for name, value in batch.items() if name.partition(".")[0] in read}
        batch = self.asker.with_tables(self._output, batch, self._tables)
        with evaluating(self.asker.model), torch.no_grad():
            given = self._prepared(batch, rows)
            chosen, first = self._likeliest_first_words(given, rows)
            owner = torch.arange(rows, device=chosen.device).repeat_interleave(self._top)
            pieces = zip(chosen.flatten().split(TEXTS_AT_ONCE), owner.split(TEXTS_AT_ONCE), strict=True)
            scores = torch.cat([self._judged(given, *piece) for piece in pieces]).view(rows, self._top)
        scores = scores + (self._settings.first_word - 1) * first
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        return Ranked(chosen.gather(1, order).cpu(), scores.cpu())

    def best(self, batch: Mapping[str, Any]) -> list[str]:
        """Choose the likeliest text for each row of a batch."""
        return [self.texts[line] for line in self.rank(batch).texts[:, 0].tolist()]

    def _prepared(self, batch: Mapping[str, Any], rows: int) -> dict[str, Any]:
        """All that is known of the rows of a batch before any text, tables too."""
        programs = self._programs
        texts = self._candidates.ids[:1].expand(rows, -1)
        step = Step(programs.params)
        return {**batch, **programs.prepare(self.asker.model, {**batch, **owners(self._over, texts)}, step)}

    def _judged(self, given: Mapping[str, Any], texts: Tensor, owner: Tensor) -> Tensor:
        """Log-probabilities [texts] of lines of the table for the rows `owner`."""
        logits = self._logits(given, take(self._candidates, Index(texts)), owner)
        assert logits.text is not None, "the checker lets logits of texts alone be ranked"
        return _log_probability(logits.scores, logits.text, self._settings.label_smoothing)

    def _likeliest_first_words(self, given: Mapping[str, Any], rows: int) -> tuple[Tensor, Tensor]:
        """Choose the texts [rows, top] that begin most likely; gives them and their first words' log-probability."""
        begin = self._candidates.ids[:1, :1].expand(rows, 1)
        lengths = torch.ones(rows, dtype=torch.int64, device=begin.device)
        words = Text(begin, lengths, self._candidates.frame, self._candidates.pad)
        logits = self._logits(given, words, torch.arange(rows, device=begin.device)).scores
        first = logits[:, -1].float().log_softmax(-1)[:, self._candidates.ids[:, 1]]
        best, chosen = first.topk(self._top, 1)
        return chosen, best

    def _logits(self, given: Mapping[str, Any], words: Text, owner: Tensor) -> Logits:
        """Logits of the words of texts that belong to the rows `owner`."""
        tables = self._programs.tables
        handed = {name: value if name in tables else take(value, Index(owner)) for name, value in given.items()}
        batch = {**handed, self._over: words, **owners(self._over, words.ids)}
        logits: Logits = self._programs.words(self.asker.model, batch, Step(self._programs.params))[LOGITS]
        return logits


def _log_probability(logits: Tensor, words: Text, smoothing: float) -> Tensor:
    """Of each text the sum [texts] over its words of their log-probability after those before; its begin is given, and
    so is a prompt."""
    targets, scores = words.ids[:, 1:], logits[:, :-1].float().transpose(1, 2)
    logs = -F.cross_entropy(scores, targets, reduction="none", label_smoothing=smoothing)
    judged = words.valid
    if words.given is not None:
        judged = judged & (torch.arange(judged.shape[1], device=judged.device) >= words.given[:, None])
    return logs.masked_fill(~judged[:, 1:], 0.0).sum(1)
