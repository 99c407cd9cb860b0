"""Recall of pictures by texts and of texts by pictures, where a picture may have several texts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from compose_vlp.data.source import Source
from compose_vlp.errors import UserError
from compose_vlp.evaluation.batches import texts_of
from compose_vlp.evaluation.embeddings import Embedder, Tick, silent
from compose_vlp.runtime.inference.outputs import Asker

RANKS = (1, 5, 10)
BLOCK = 256
"""Queries that are compared with all answers at once: 25,000 texts take 25 MB a block."""
ROUNDING = 1e-6
"""Scores that differ by less, as a share of the largest, are equal: products of equal vectors differ by rounding."""


@dataclass(frozen=True)
class Recall:
    """Shares in [0, 1] of queries with a right answer among the first 1, 5, 10; `chance` is recall@1 of a blind guess.

    `image_to_text` asks with pictures (TR in the papers), `text_to_image` with texts (IR).
    """

    image_to_text: dict[int, float]
    text_to_image: dict[int, float]
    images: int
    texts: int
    chance: float

    @property
    def mean(self) -> float:
        """Return the mean of all six, by which models are often chosen."""
        shares = [*self.image_to_text.values(), *self.text_to_image.values()]
        return sum(shares) / len(shares)

    def flat(self) -> dict[str, float]:
        """One name for each number, as trackers and scripts want them."""
        sides = {"image_to_text": self.image_to_text, "text_to_image": self.text_to_image}
        shares = {f"{side}_recall_at_{rank}": value for side, ranks in sides.items() for rank, value in ranks.items()}
        return {**shares, "mean_recall": self.mean}


@dataclass(frozen=True)
class Retrieval:
    """What was found: of each record its own texts, the first text for its picture, and whether that is right."""

    recall: Recall
    rows: tuple[int, ...]
    captions: tuple[tuple[str, ...], ...]
    first: tuple[str, ...]
    right: tuple[bool, ...]

    def flat(self) -> dict[str, float]:
        """One name for each number."""
        return self.recall.flat()

    def as_json(self) -> dict[str, Any]:
        """Return the numbers, and of each picture the first text."""
        ranked = zip(self.rows, self.first, self.right, strict=True)
        return {**asdict(self.recall), "found": [{"record": r, "text": t, "right": ok} for r, t, ok in ranked]}


@dataclass(frozen=True)
class Ranking:
    """For each query how many wrong answers come before its best right one, and which answer comes first."""

    before: Tensor
    first: Tensor

    def recalls(self) -> dict[int, float]:
        return {rank: float((self.before < rank).double().mean()) for rank in RANKS}


class Matches:
    """Which texts are right for which pictures: those that are among the picture's own, word for word."""

    def __init__(self, captions: Sequence[Sequence[Hashable]], texts: Sequence[Hashable]) -> None:
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        self._texts = torch.tensor([numbers[text] for text in texts])
        self._of = torch.zeros(len(captions), len(numbers), dtype=torch.bool)
        for picture, own in enumerate(captions):
            self._of[picture, [numbers[text] for text in own if text in numbers]] = True

    def of_pictures(self, which: slice) -> Tensor:
        """[pictures, texts]"""
        return self._of[which][:, self._texts]

    def of_texts(self, which: slice) -> Tensor:
        """[texts, pictures]"""
        return self._of[:, self._texts[which]].T

    def share(self) -> float:
        """Return the share of right pairs among all: what a blind guess finds first."""
        right = sum(int(self.of_texts(slice(at, at + BLOCK)).sum()) for at in range(0, len(self._texts), BLOCK))
        return right / (self._of.shape[0] * len(self._texts))


def rankings(pictures: Tensor, texts: Tensor, matches: Matches) -> tuple[Ranking, Ranking]:
    """Texts ranked for each of `pictures` [pictures, width], and pictures for each of `texts` [texts, width].

    Ties go against the model: of equal scores the wrong ones count as first, so that a constant score has no recall.
    """
    return _ranking(pictures, texts, matches.of_pictures), _ranking(texts, pictures, matches.of_texts)


def recall(rankings: tuple[Ranking, Ranking], chance: float) -> Recall:
    """Compute the shares that rankings of texts and of pictures come to."""
    texts, pictures = rankings
    return Recall(texts.recalls(), pictures.recalls(), len(texts.before), len(pictures.before), chance)


def _ranking(queries: Tensor, answers: Tensor, right_of: Callable[[slice], Tensor]) -> Ranking:
    before, first = [], []
    for start in range(0, len(queries), BLOCK):
        here = slice(start, start + BLOCK)
        scores, right = queries[here] @ answers.T, right_of(here)
        best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
        equal = best - ROUNDING * scores.abs().amax()
        before.append(((scores >= equal) & ~right).sum(1))
        first.append(scores.argmax(1))
    return Ranking(torch.cat(before), torch.cat(first))


def evaluate_retrieval(asker: Asker, source: Source, count: int = 1000, *, tick: Tick = silent) -> Retrieval:
    """Recall of the first `count` records from `image_embedding` and `text_embedding`.

    A text is right for every picture that has that very text among its own, so that sentences that repeat are no
    mistakes. Records without a text are left out.

    Raises:
        UserError: the blueprint lacks one of the outputs, or no record has a picture and a text.
    """
    embedder = Embedder.of(asker, "retrieval")
    rows, pictures = embedder.pictures(source, count, tick)
    written = texts_of(source, rows, embedder.text)
    captions = [tuple(text for text in own if embedder.readable(text)) for own in written]
    kept = [place for place, own in enumerate(captions) if own]
    if not kept:
        raise UserError(f"none of the first {count} records has a text in its field {embedder.text!r}")
    captions = [captions[place] for place in kept]
    texts = [text for own in captions for text in own]
    matches = Matches(captions, texts)
    ranked = rankings(pictures[kept], embedder.texts(texts), matches)
    return Retrieval(
        recall=recall(ranked, matches.share()),
        rows=tuple(rows[place] for place in kept),
        captions=tuple(captions),
        first=tuple(texts[number] for number in ranked[0].first.tolist()),
        right=tuple((ranked[0].before == 0).tolist()),
    )
