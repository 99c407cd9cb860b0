"""The filter: how well a picture and a text fit, by a model's matching head or by its embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

from torch.nn import functional as F
from typing_extensions import override

from compose_vlp.data.collate import Collator
from compose_vlp.data.source import BadRecord
from compose_vlp.errors import UserError
from compose_vlp.evaluation.batches import picture_and_text
from compose_vlp.evaluation.embeddings import OUTPUTS, Embedder
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.tower_cache import Row, Stored

By: TypeAlias = Literal["match", "similarity"]

MATCH: Final = "match"
THRESHOLD: Final = 0.5
"""The probability of a match from which BLIP's filter keeps a text."""
PAIRS: Final = 64
"""Pairs that a matching head judges at once."""


class Judge(ABC):
    """A model that says how well a picture and a text fit; a text is kept from `threshold` on.

    `image` and `text` are the fields of records that it reads, which fill the inputs `inputs`; `run` is its name in the
    data that comes out.
    """

    by: By

    def __init__(self, asker: Asker, run: str, image: str, text: str, threshold: float) -> None:
        self.asker, self.run, self.image, self.text, self.threshold = asker, run, image, text, threshold
        self.inputs = self._inputs()

    def _inputs(self) -> Mapping[str, tuple[str, ...]]:
        """List the inputs that the picture and the text fill, by field."""
        return self.asker.fields_read(MATCH)

    def read(self, record: Mapping[str, Any]) -> list[Any]:
        """Read what the model sees of a record's picture.

        Raises:
            BadRecord: the picture is broken.
        """
        return self._pictures.read(record)

    def scores(self, pictures: Sequence[list[Any]], texts: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """Score each picture's texts; None where nothing of a text is left in the tokenizer's words."""
        by_record: list[list[float | None]] = [[None] * len(own) for own in texts]
        places = [(row, n) for row, own in enumerate(texts) for n in range(len(own))]
        read = [(row, n, item) for row, n in places if (item := self._read_text(texts[row][n])) is not None]
        if read:
            shown = self._pictures.stack(pictures)
            scores = self._scores(shown, [row for row, _, _ in read], [item for _, _, item in read])
            for (row, n, _), score in zip(read, scores, strict=True):
                by_record[row][n] = score
        return by_record

    @abstractmethod
    def _scores(self, pictures: dict[str, Any], rows: Sequence[int], texts: Sequence[list[Any]]) -> list[float]:
        """Score each text with the picture of its row."""

    def _read_text(self, text: str) -> list[Any] | None:
        try:
            return self._words.read({self.text: text})
        except BadRecord:
            return None

    def _on_device(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value.to(self.asker.device) for name, value in values.items()}

    @cached_property
    def _pictures(self) -> Collator:
        return self.asker.collator(self.inputs[self.image])

    @cached_property
    def _words(self) -> Collator:
        return self.asker.collator(self.inputs[self.text])


class ByMatch(Judge):
    """The probability of class 1 of the output `match`, as BLIP's filter has it; each picture is encoded once."""

    by = "match"

    @cached_property
    def _stored(self) -> Stored:
        return Stored(self.asker, MATCH)

    def _scores(self, pictures: dict[str, Any], rows: Sequence[int], texts: Sequence[list[Any]]) -> list[float]:
        images = self._stored.keep(self.image, self._on_device(pictures))
        scores: list[float] = []
        for start in range(0, len(rows), PAIRS):
            here = slice(start, start + PAIRS)
            words = self._stored.keep(self.text, self._on_device(self._words.stack(texts[here])))
            pairs: list[tuple[Row, Row]] = [(images[row], own) for row, own in zip(rows[here], words, strict=True)]
            scores += self._stored.ask(pairs)[:, 1].tolist()
        return scores


class BySimilarity(Judge):
    """The cosine of `image_embedding` and `text_embedding`, for models without a matching head."""

    by = "similarity"

    @override
    def _inputs(self) -> Mapping[str, tuple[str, ...]]:
        return {**self.asker.fields_read(OUTPUTS[0]), **self.asker.fields_read(OUTPUTS[1])}

    def _scores(self, pictures: dict[str, Any], rows: Sequence[int], texts: Sequence[list[Any]]) -> list[float]:
        images = self.asker.value_of_batch(OUTPUTS[0], self._on_device(pictures)).float()
        words = self.asker.value_of_batch(OUTPUTS[1], self._on_device(self._words.stack(texts))).float()
        cosines: list[float] = F.cosine_similarity(images[list(rows)], words).tolist()
        return cosines


def judge_of(asker: Asker, run: str, *, by: By | None = None, threshold: float | None = None) -> Judge:
    """Make the filter from a blueprint's outputs: its `match`, where it has one, else its embeddings.

    Raises:
        UserError: outputs are missing or read other things than one picture and one text, or cosines are to be judged
            and no threshold is given.
    """
    outputs = asker.blueprint.outputs
    chosen: By = by or ("match" if MATCH in outputs else "similarity")
    if chosen == "match":
        if MATCH not in outputs:
            raise UserError(
                f"{asker.blueprint.name} has no output {MATCH!r}", hints=["`--by similarity` compares its embeddings"]
            )
        image, text = picture_and_text(asker, MATCH, "a filter reads one picture and one text")
        return ByMatch(asker, run, image, text, THRESHOLD if threshold is None else threshold)
    embedder = Embedder.of(asker, "a filter by similarity")
    if threshold is None:
        raise UserError(
            "a filter by similarity needs `--threshold`: which cosine is high enough, every model has its own scale",
            hints=["`--threshold -1 --limit 500` keeps all, with their scores, to be looked at"],
        )
    return BySimilarity(asker, run, embedder.image, embedder.text, threshold)
