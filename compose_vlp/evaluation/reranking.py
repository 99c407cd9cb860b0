"""Retrieval in two steps: embeddings choose candidates, the matching head puts them in order (ALBEF, section 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from compose_vlp.blueprint.sections import Rerank
from compose_vlp.data.source import Source
from compose_vlp.errors import UserError
from compose_vlp.evaluation.batches import batches, finite, need, picture_and_text, texts_of
from compose_vlp.evaluation.embeddings import OUTPUTS, TEXTS_AT_ONCE, Embedder, Tick, silent
from compose_vlp.evaluation.retrieval import ROUNDING, Matches, Ranking, Retrieval, recall
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.tower_cache import Row, Stored

MATCH: Final = "match"
PAIRS: Final = 128
"""Pairs that the matching head judges at once."""


@dataclass(frozen=True)
class Reranked(Retrieval):
    """Recalls after the second step."""


class Matcher:
    """The score of pictures and texts by `match`: its logit of class 1, from towers that run once each."""

    def __init__(self, asker: Asker) -> None:
        need(asker, "reranking", MATCH, *OUTPUTS)
        self.asker = asker
        self._stored = Stored(asker, MATCH, logits=True)
        self.image, self.text = picture_and_text(asker, MATCH, "reranking pairs a picture with a text")

    def pictures(self, source: Source, count: int) -> dict[int, Row]:
        """Keep what `match` needs of the pictures of the first `count` records, by record number."""
        kept: dict[int, Row] = {}
        for numbers, values in batches(self.asker, source, self._stored.fields[self.image], count):
            kept |= zip(numbers, self._stored.keep(self.image, values), strict=True)
        return kept

    def texts(self, texts: Sequence[str]) -> list[Row]:
        """Keep what `match` needs of texts that the embedder can read."""
        collator, kept = self.asker.collator(self._stored.fields[self.text]), list[Row]()
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            read = [collator.read({self.text: text}) for text in texts[start : start + TEXTS_AT_ONCE]]
            values = {name: value.to(self.asker.device) for name, value in collator.stack(read).items()}
            kept += self._stored.keep(self.text, values)
        return kept

    def scores(self, pairs: Sequence[tuple[Row, Row]]) -> Tensor:
        """Logits of class 1 [pairs]."""
        parts = [self._stored.ask(pairs[start : start + PAIRS])[:, 1] for start in range(0, len(pairs), PAIRS)]
        return finite(torch.cat(parts), MATCH).float().cpu()


def evaluate_reranking(
    asker: Asker, source: Source, count: int = 1000, settings: Rerank | None = None, *, tick: Tick = silent
) -> Reranked:
    """Recall of the first `count` records, the first `top` candidates of each query put in order by `match`.

    What is no candidate comes after all that are. What counts as right is told at `evaluate_retrieval`.

    Raises:
        UserError: the blueprint lacks an output, or no record has a picture and a text.
    """
    chosen, matcher, embedder = settings or Rerank(), Matcher(asker), Embedder.of(asker, "reranking")
    rows, embedded = embedder.pictures(source, count)
    written = texts_of(source, rows, embedder.text)
    captions = [tuple(text for text in own if embedder.readable(text)) for own in written]
    places = [place for place, own in enumerate(captions) if own]
    if not places:
        raise UserError(f"none of the first {count} records has a text in its field {embedder.text!r}")
    rows, captions, embedded = [rows[p] for p in places], [captions[p] for p in places], embedded[places]
    texts = [text for own in captions for text in own]
    matches, cosines = Matches(captions, texts), embedded @ embedder.texts(texts).T
    kept, words = matcher.pictures(source, count), matcher.texts(texts)
    pictures = [kept[row] for row in rows]
    chances = [_candidates(chosen, cosines), _candidates(chosen, cosines.T)]
    judged = _judged(matcher, pictures, words, chances, lambda share: tick(int(share * len(rows))))
    of_pictures = _ranked(chosen, *chances[0], judged[0], matches.of_pictures(slice(None)))
    of_texts = _ranked(chosen, *chances[1], judged[1], matches.of_texts(slice(None)))
    return Reranked(
        recall=recall((of_pictures, of_texts), matches.share()),
        rows=tuple(rows),
        captions=tuple(captions),
        first=tuple(texts[number] for number in of_pictures.first.tolist()),
        right=tuple((of_pictures.before == 0).tolist()),
    )


def _candidates(settings: Rerank, cosines: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the likeliest answers of each query: their cosines and their numbers, each [queries, candidates]."""
    best = cosines.topk(min(settings.top, cosines.shape[1]), 1)
    return best.values, best.indices


def _judged(
    matcher: Matcher,
    pictures: Sequence[Row],
    words: Sequence[Row],
    chances: Sequence[tuple[Tensor, Tensor]],
    tick: Callable[[float], None],
) -> tuple[Tensor, Tensor]:
    """Score the candidates of all pictures, and of those of all texts; each pair is judged once.

    Picture after picture, with all texts that are to be judged with it, so that what looks at a picture makes its keys
    and values once.
    """
    (_, texts_of_pictures), (_, pictures_of_texts) = chances
    asked = (
        torch.arange(len(pictures))[:, None] * len(words) + texts_of_pictures,
        pictures_of_texts * len(words) + torch.arange(len(words))[:, None],
    )
    pairs, places = torch.cat([pair.flatten() for pair in asked]).unique(return_inverse=True)
    scores = []
    for number, piece in enumerate(pairs.split(PAIRS), 1):
        scores.append(matcher.scores([(pictures[p // len(words)], words[p % len(words)]) for p in piece.tolist()]))
        tick(min(number * PAIRS / len(pairs), 1.0))
    judged = torch.cat(scores)[places]
    return judged[: asked[0].numel()].view_as(asked[0]), judged[asked[0].numel() :].view_as(asked[1])


def _ranked(settings: Rerank, cosines: Tensor, candidates: Tensor, judged: Tensor, right: Tensor) -> Ranking:
    """Put the candidates [queries, candidates] of each query in order by what was judged of them."""
    judged = judged + cosines if settings.add_similarity else judged
    before = [_before(*of_query) for of_query in zip(judged, candidates, right, strict=True)]
    first = candidates.gather(1, judged.argmax(1, keepdim=True))[:, 0]
    return Ranking(torch.tensor(before), first)


def _before(judged: Tensor, candidates: Tensor, right: Tensor) -> int:
    """Count the wrong answers before the best right one; all of them, where no right one is a candidate."""
    fits = right[candidates]
    if not fits.any():
        return int((~right).sum())
    equal = judged[fits].max() - ROUNDING * judged.abs().max()
    return int(((judged >= equal) & ~fits).sum())
