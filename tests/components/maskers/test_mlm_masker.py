"""Words are hidden in BERT's shares; what is no word never is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from compose_vlp.components.maskers.mlm_masker import IGNORED, MlmMasker
from compose_vlp.errors import UserError
from compose_vlp.values import Text

PAD, CLS, SEP, MASK, WORDS = 0, 1, 2, 3, 1000


@dataclass
class Words:
    """What the masker asks of a tokenizer: ids from 900 on are pieces that go on with a word."""

    mask_id: int | None = MASK
    end_id: int | None = SEP
    highest_id: int = WORDS - 1
    special: dict[str, int] = field(default_factory=lambda: {"[PAD]": PAD, "[CLS]": CLS, "[SEP]": SEP, "[MASK]": MASK})
    continued: str = "##"

    def vocabulary(self) -> dict[str, int]:
        return {(f"{self.continued}p{n}" if n >= 900 else f"w{n}"): n for n in range(4, WORDS)}


def masker(**settings: Any) -> MlmMasker:
    return MlmMasker(MlmMasker.Config(**settings))


def text(rows: int = 400, length: int = 32) -> Text:
    ids = torch.randint(4, 900, (rows, length))
    lengths = torch.randint(length // 2, length + 1, (rows,))
    ids[:, 0] = CLS
    ids[torch.arange(rows), lengths - 1] = SEP
    ids[torch.arange(length) >= lengths[:, None]] = PAD
    return Text(ids, lengths, frame=length, pad=PAD)


def test_words_are_hidden_in_berts_shares() -> None:
    words = text()
    masked = masker()(words, tokenizer=Words())
    chosen = masked.labels.ids != IGNORED
    real = words.valid & (words.ids > MASK)
    assert abs(float(chosen.sum() / real.sum()) - 0.15) < 0.01
    hidden = masked.text.ids == MASK
    kept = masked.text.ids == words.ids
    assert abs(float((chosen & hidden).sum() / chosen.sum()) - 0.8) < 0.03
    assert abs(float((chosen & kept).sum() / chosen.sum()) - 0.1) < 0.03
    assert torch.equal(masked.labels.ids[chosen], words.ids[chosen])
    assert torch.equal(masked.text.ids[~chosen], words.ids[~chosen])


def test_begin_end_and_padding_are_never_chosen() -> None:
    words = text()
    masked = masker(probability=1.0)(words, tokenizer=Words())
    chosen = masked.labels.ids != IGNORED
    assert torch.equal(chosen, words.valid & (words.ids > MASK))


def test_all_padding_has_nothing_to_hide() -> None:
    empty = Text(torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, dtype=torch.long), frame=5)
    masked = masker(probability=1.0)(empty, tokenizer=Words())
    assert (masked.labels.ids == IGNORED).all()
    assert torch.equal(masked.text.ids, empty.ids)


def test_random_words_come_from_the_whole_vocabulary() -> None:
    masked = masker(probability=1.0, mask=0.0, random=1.0)(text(2000), tokenizer=Words())
    drawn = masked.text.ids[masked.labels.ids != IGNORED]
    assert len(drawn.unique()) == WORDS


def test_pieces_of_a_word_share_its_fate_of_being_chosen() -> None:
    words = text(300)
    pieces = (torch.rand(words.ids.shape) < 0.5) & (words.ids > MASK)
    pieces[:, 1] = False
    words.ids[pieces] = torch.randint(900, WORDS, (int(pieces.sum()),))
    chosen = masker(probability=0.5, whole_words=True)(words, tokenizer=Words()).labels.ids != IGNORED
    rows, places = pieces.nonzero(as_tuple=True)
    assert torch.equal(chosen[rows, places], chosen[rows, places - 1])
    starts = words.valid & (words.ids > MASK) & ~pieces
    assert abs(float(chosen[starts].float().mean()) - 0.5) < 0.05


def test_vocabulary_without_marked_pieces_has_no_whole_words() -> None:
    with pytest.raises(UserError, match="marks the pieces of a word with `##`"):
        masker(whole_words=True)(text(2), tokenizer=Words(continued=""))


def test_tokenizer_without_mask_token_is_refused() -> None:
    with pytest.raises(UserError, match="has no mask token"):
        masker()(text(2), tokenizer=Words(mask_id=None))


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(ValueError, match="together at most 1"):
        MlmMasker.Config(mask=0.8, random=0.3)


def test_draws_follow_the_seed() -> None:
    words = text(4)
    torch.manual_seed(1)
    first = masker()(words, tokenizer=Words())
    torch.manual_seed(1)
    assert torch.equal(first.text.ids, masker()(words, tokenizer=Words()).text.ids)


@pytest.mark.parametrize("probability", [0.05, 0.3, 0.6, 0.7, 1.0])
def test_a_fixed_share_of_a_captions_tokens_is_hidden_its_end_like_its_words(probability: float) -> None:
    words = text(500, 12)
    masked = masker(probability=probability, fixed=True, end=True)(words, tokenizer=Words())
    chosen = masked.labels.ids != IGNORED
    numbers = [
        max(min(int(n * probability + 0.5), n - 1), 1) for n in words.lengths.tolist()
    ]  # unilm, beit3/datasets.py
    assert chosen.sum(1).tolist() == numbers
    assert not chosen[:, 0].any() and not (chosen & ~words.valid).any()
    ends = chosen[torch.arange(500), words.lengths - 1].float()
    shares = torch.tensor(numbers) / (words.lengths - 1)
    assert abs(float(ends.mean() - shares.mean())) < 0.08, "the end is chosen as often as any word"
    assert torch.equal(masked.labels.ids[chosen], words.ids[chosen])


def test_a_fixed_share_without_the_end_is_of_words_alone() -> None:
    words = text(50, 12)
    chosen = masker(probability=1.0, fixed=True)(words, tokenizer=Words()).labels.ids != IGNORED
    assert torch.equal(chosen, words.valid & (words.ids > MASK))


def test_a_fixed_share_of_nothing_is_nothing() -> None:
    empty = Text(torch.tensor([[CLS, SEP, PAD]]), torch.tensor([2]), frame=3)
    assert (masker(fixed=True)(empty, tokenizer=Words()).labels.ids == IGNORED).all()
    assert (
        masker(fixed=True, end=True)(empty, tokenizer=Words()).labels.ids == torch.tensor([IGNORED, SEP, IGNORED])
    ).all()


def test_random_words_may_begin_behind_the_special_ones() -> None:
    masked = masker(probability=1.0, mask=0.0, random=1.0, random_from=3)(text(2000), tokenizer=Words())
    drawn = masked.text.ids[masked.labels.ids != IGNORED]
    assert drawn.unique().tolist() == list(range(3, WORDS))
    with pytest.raises(UserError, match="leaves no word"):
        masker(random_from=WORDS)(text(2), tokenizer=Words())


def test_an_end_that_is_not_there_cannot_be_hidden() -> None:
    with pytest.raises(UserError, match="no end token"):
        masker(end=True)(text(2), tokenizer=Words(end_id=None))


def test_words_are_not_counted_as_tokens() -> None:
    with pytest.raises(ValueError, match="only one of them"):
        MlmMasker.Config(fixed=True, whole_words=True)
