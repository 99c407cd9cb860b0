"""Captions of a trained model, and their scores against what the records say."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import regex

from compose_vlp.data.source import Source
from compose_vlp.errors import UserError
from compose_vlp.evaluation.batches import batches, need, texts_of
from compose_vlp.evaluation.embeddings import Tick, silent
from compose_vlp.runtime.inference.outputs import Asker

TOKENIZER: Final = "lower-case words and digits"
"""How texts are cut for all scores here. The papers' figures use the Penn Treebank tokenizer, which needs Java."""
_UNSPACED: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Line_Break=Complex_Context}"
"""Letters of scripts that put no space between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese."""
_TOKEN: Final = regex.compile(
    rf"""
    (?=[{_UNSPACED}])\X  # a letter with its marks
    | [[\p{{L}}\p{{N}}_]--[{_UNSPACED}]] [[\p{{L}}\p{{M}}\p{{N}}_\u200c\u200d]--[{_UNSPACED}]]*  # a word with joiners
    | (?=\p{{So}})\X  # a pictograph
    """,
    regex.VERBOSE | regex.VERSION1,
)
_NOTHING_SAID, _NOTHING_TO_SAY = ".", ","
"""What stand for a caption and a reference without any words: no other text is equal to them."""


@dataclass(frozen=True)
class CaptionScores:
    """Corpus BLEU-1 to 4 (Papineni et al. 2002), ROUGE-L (Lin 2004) and CIDEr-D (Vedantam et al. 2015; 10 is its top).

    `distinct` is the share of captions that differ from one another (a model that always says the same has
    1 / captions), `exact` the share that are one of their references, word for word. `cider` is None where all records
    have the same references: it weighs words by how few records have them, and none would have any weight.
    """

    bleu: tuple[float, float, float, float]
    rouge_l: float
    cider: float | None
    distinct: float
    exact: float
    captions: int
    tokenizer: str = TOKENIZER

    def flat(self) -> dict[str, float]:
        """One name for each number, as trackers and scripts want them."""
        return {
            **{f"bleu_{n}": value for n, value in enumerate(self.bleu, 1)},
            "rouge_l": self.rouge_l,
            **({"cider": self.cider} if self.cider is not None else {}),
            "distinct_captions": self.distinct,
            "exact_captions": self.exact,
        }


@dataclass(frozen=True)
class Captions:
    """What a model said of pictures: record numbers, captions, references and their scores."""

    rows: tuple[int, ...]
    captions: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    scores: CaptionScores

    def flat(self) -> dict[str, float]:
        """One name for each number."""
        return self.scores.flat()

    def as_json(self) -> dict[str, Any]:
        """Return the numbers, and every caption with its references."""
        rows = zip(self.rows, self.captions, self.references, strict=True)
        listed = [{"record": row, "caption": caption, "references": list(true)} for row, caption, true in rows]
        return {**asdict(self.scores), "said": listed}


def caption_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """Score one caption a picture against its references, one or more."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    written = {i: [words_of(text) or _NOTHING_SAID] for i, text in enumerate(captions)}
    true = {i: [words_of(text) or _NOTHING_TO_SAY for text in texts] for i, texts in enumerate(references)}
    bleu, _ = Bleu(4).compute_score(true, written, verbose=0)
    rouge, _ = Rouge().compute_score(true, written)
    differ = len({tuple(texts) for texts in true.values()}) > 1
    first, second, third, fourth = (float(value) for value in bleu)
    return CaptionScores(
        bleu=(first, second, third, fourth),
        rouge_l=float(rouge),
        cider=float(Cider().compute_score(true, written)[0]) if differ else None,
        distinct=len({texts[0] for texts in written.values()}) / len(written),
        exact=sum(written[i][0] in true[i] for i in written) / len(written),
        captions=len(captions),
    )


def words_of(text: str) -> str:
    """Write a text as the scores see it: its words in lower case, one space between them; none of punctuation alone.

    Marks stay with their letters, in Unicode's composed form. Where a script puts no spaces between words (Chinese,
    Japanese, Thai ...), each letter is a word.
    """
    return " ".join(_TOKEN.findall(unicodedata.normalize("NFC", text.lower())))


def evaluate_captioning(
    asker: Asker, source: Source, count: int = 1000, *, output: str = "caption", tick: Tick = silent, **settings: Any
) -> Captions:
    """Captions of the first `count` records and their scores against all texts that the records have.

    Records without a text are left out. `settings` replace those of the output (`beams`, `top_p` ...).

    Raises:
        UserError: the blueprint has no such output, a search setting is unknown, or no record can be read.
    """
    need(asker, "captioning", output)
    over = str(asker.blueprint.outputs[output].over)
    field = asker.blueprint.inputs[over].field or over
    triples: list[tuple[int, str, tuple[str, ...]]] = []
    done = 0
    for rows, values in batches(asker, source, asker.inputs_read(output), count):
        written = asker.texts_of_batch(output, values, **settings)
        triples += (triple for triple in zip(rows, written, texts_of(source, rows, field), strict=True) if triple[2])
        done += len(rows)
        tick(done)
    if not triples:
        raise UserError(f"none of the first {count} records has a picture and a text in its field {field!r}")
    numbers, captions, references = zip(*triples, strict=True)
    return Captions(numbers, captions, references, caption_scores(captions, references))
