"""Choosing words: greedy, nucleus and beam search over anything that foretells the next word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.readable import several


class Foreteller(Protocol):
    """Foretells: `begin(ids)` takes the begun texts [rows, begun] and gives them as the model reads them, with a prompt
    that its program puts in, and scores [rows, vocabulary] of the next word; `step(ids)` takes the new words
    [rows, new] and gives such scores."""

    def begin(self, ids: Tensor) -> tuple[Tensor, Tensor]: ...

    def step(self, ids: Tensor) -> Tensor: ...

    def reorder(self, rows: Tensor) -> None: ...


@dataclass(frozen=True)
class Search:
    """How to choose words. Lengths count the begin and end tokens and a prompt, as in the official BLIP.

    With `mask`, the id of a token that is put behind the words each time, the next word is read in its place; else it
    is what the last word foretells. One beam is greedy, unless `top_p` (Holtzman et al. 2020), `top_k` or `temperature`
    ask for words to be drawn.
    """

    end: int
    pad: int
    max_length: int = 20
    min_length: int = 0
    beams: int = 1
    length_penalty: float = 1.0
    top_p: float | None = None
    top_k: int | None = None
    temperature: float | None = None
    repetition_penalty: float = 1.0
    mask: int | None = None

    @property
    def samples(self) -> bool:
        return self.top_p is not None or self.temperature is not None or (self.top_k is not None and self.top_k > 1)


def search(model: Foreteller, start: Tensor, how: Search, generator: torch.Generator | None = None) -> Tensor:
    """Complete the begun texts `start` [rows, begun]; gives ids [rows, length], `pad` after each end.

    A prompt of the model's own is no part of them. For beams the model must already hold `beams` copies of each row,
    one after the other.

    Raises:
        UserError: `max_length` leaves no place for a word.
    """
    begun, scores = model.begin(start.repeat_interleave(how.beams, 0) if how.beams > 1 else start)
    length = begun.shape[1]
    if length >= how.max_length:
        raise no_word(how.max_length, length)
    ids = _by_beams(model, begun, scores, how) if how.beams > 1 else _one_by_one(model, begun, scores, how, generator)
    return torch.cat((start, ids[:, length:]), 1)


def no_word(max_length: int, begun: int) -> UserError:
    """Report the mistake of a length that the beginning of the texts fills."""
    return UserError(
        f"max_length {max_length} leaves no word to foretell: texts begin with {several(begun, 'token')}",
        hints=["the begin token counts, and so does a prompt"],
    )


def _one_by_one(
    model: Foreteller, ids: Tensor, scores: Tensor, how: Search, generator: torch.Generator | None
) -> Tensor:
    """Go on with the texts `ids` [rows, begun], whose next words have `scores`, by the best or a drawn word."""
    done = torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)
    while True:
        scores = _shaped(scores.float(), ids, how)
        words = _sample(scores, how, generator) if how.samples else scores.argmax(-1)
        words = torch.where(done, how.pad, words)
        ids = torch.cat((ids, words[:, None]), 1)
        done = done | (words == how.end)
        if ids.shape[1] >= how.max_length or bool(done.all()):
            return ids
        scores = model.step(words[:, None])


def _shaped(scores: Tensor, ids: Tensor, how: Search) -> Tensor:
    """Scores after the repetition penalty (Keskar et al. 2019) and with no early end."""
    if how.repetition_penalty != 1.0:
        penalised = scores.gather(1, ids)
        penalised = torch.where(penalised < 0, penalised * how.repetition_penalty, penalised / how.repetition_penalty)
        scores = scores.scatter(1, ids, penalised)
    if ids.shape[1] < how.min_length:
        scores = scores.clone()
        scores[:, how.end] = -torch.inf
    return scores


def _sample(scores: Tensor, how: Search, generator: torch.Generator | None) -> Tensor:
    scores = scores / (how.temperature or 1.0)
    ordered, places = scores.sort(-1, descending=True)
    shares = ordered.softmax(-1)
    drop = torch.zeros_like(shares, dtype=torch.bool)
    if how.top_p is not None:
        drop |= shares.cumsum(-1) - shares >= how.top_p  # the first word is always kept
    if how.top_k is not None:
        drop[:, how.top_k :] = True
    shares = shares.masked_fill(drop, 0.0)
    picked = torch.multinomial(shares, 1, generator=generator)
    return places.gather(1, picked)[:, 0]


@dataclass
class _Finished:
    """The best complete texts of one row: (score, ids)."""

    keep: int
    texts: list[tuple[float, Tensor]]

    def add(self, score: float, ids: Tensor) -> None:
        self.texts = sorted([*self.texts, (score, ids)], key=lambda scored: -scored[0])[: self.keep]

    def is_full(self) -> bool:
        return len(self.texts) == self.keep

    def worst(self) -> float:
        return self.texts[-1][0]


def _by_beams(model: Foreteller, ids: Tensor, scores: Tensor, how: Search) -> Tensor:
    """Beam search with length-normalised scores, log p / length ** penalty; `ids` [rows * beams, begun]."""
    beams = how.beams
    rows = ids.shape[0] // beams
    totals = torch.full((rows, beams), -torch.inf, device=ids.device)
    totals[:, 0] = 0.0  # the copies of a row are equal at first
    finished = [_Finished(beams, []) for _ in range(rows)]
    closed = [False] * rows
    while True:
        logs = _shaped(scores.float().log_softmax(-1), ids, how)
        vocabulary = logs.shape[-1]
        candidates = (totals.view(-1, 1) + logs).view(rows, beams * vocabulary)
        best, places = candidates.topk(min(2 * beams, candidates.shape[1]), dim=1)
        totals, origins, words = _next_beams(best, places, vocabulary, ids, how, finished, closed)
        ids = torch.cat((ids[origins.view(-1)], words.view(-1, 1)), 1)
        for row in range(rows):
            longest = ids.shape[1]
            if finished[row].is_full() and finished[row].worst() >= float(best[row, 0]) / longest**how.length_penalty:
                closed[row] = True
        if ids.shape[1] >= how.max_length or all(closed):
            break
        model.reorder(origins.view(-1))
        scores = model.step(words.view(-1, 1))
    for row in range(rows):
        if not closed[row]:
            for beam in range(beams):
                text = ids[row * beams + beam]
                finished[row].add(float(totals[row, beam]) / len(text) ** how.length_penalty, text)
    return _padded([of_row.texts[0][1] for of_row in finished], how)


def _next_beams(
    best: Tensor,
    places: Tensor,
    vocabulary: int,
    ids: Tensor,
    how: Search,
    finished: list[_Finished],
    closed: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Among the best continuations: ended texts are stored, the first `beams` others go on."""
    rows, beams = best.shape[0], how.beams
    totals = torch.zeros(rows, beams, device=best.device)
    origins = torch.zeros(rows, beams, dtype=torch.long, device=best.device)
    words = torch.full((rows, beams), how.pad, device=best.device)
    for row in range(rows):
        place = 0
        for rank, (total, where) in enumerate(zip(best[row].tolist(), places[row].tolist(), strict=True)):
            origin, word = row * beams + where // vocabulary, where % vocabulary
            if word == how.end:
                if rank < beams and not closed[row]:
                    text = torch.cat((ids[origin], ids.new_tensor([word])))
                    # the end token is not counted, as in Hugging Face's scorer
                    finished[row].add(total / (len(text) - 1) ** how.length_penalty, text)
                continue
            totals[row, place], origins[row, place], words[row, place] = total, origin, word
            place += 1
            if place == beams:
                break
    return totals, origins, words


def _padded(texts: list[Tensor], how: Search) -> Tensor:
    longest = max(len(text) for text in texts)
    ids = texts[0].new_full((len(texts), longest), how.pad)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
    return ids
