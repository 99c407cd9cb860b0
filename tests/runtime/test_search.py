"""Greedy, nucleus and beam search over a small table of next-word scores."""

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.runtime.inference.search import Search, search

VOCABULARY, END, PAD = 5, 4, 0


class Table:
    """Foretells by the last two words only, from a fixed table; keeps its rows like a cache would, a prompt too."""

    def __init__(self, seed: int, prompt: tuple[int, ...] = ()) -> None:
        self.prompt = torch.tensor(prompt, dtype=torch.long)
        self.scores = torch.randn(VOCABULARY, VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 2
        self.ids: Tensor | None = None

    def begin(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        ids = torch.cat((ids, self.prompt.expand(len(ids), -1)), 1)
        return ids, self.step(ids)

    def step(self, ids: Tensor) -> Tensor:
        self.ids = ids if self.ids is None else torch.cat((self.ids, ids), 1)
        before = self.ids[:, -2] if self.ids.shape[1] > 1 else torch.zeros_like(self.ids[:, -1])
        return self.scores[before, self.ids[:, -1]]

    def reorder(self, rows: Tensor) -> None:
        assert self.ids is not None
        self.ids = self.ids[rows]


def logp(table: Table, words: list[int]) -> float:
    total = 0.0
    for place in range(1, len(words)):
        before = words[place - 2] if place > 1 else 0
        total += float(table.scores[before, words[place - 1]].log_softmax(-1)[words[place]])
    return total


def test_greedy_takes_the_best_word_each_time_and_pads_after_the_end() -> None:
    table = Table(0)
    start = torch.tensor([[1], [2], [3]])
    ids = search(table, start, Search(END, PAD, max_length=9))
    for row in ids.tolist():
        words = [row[0]]
        for word in row[1:]:
            if words[-1] == END:
                assert word == PAD
                continue
            before = words[-2] if len(words) > 1 else 0
            assert word == int(table.scores[before, words[-1]].argmax())
            words.append(word)


def test_wide_beam_finds_the_best_of_all_texts() -> None:
    for seed in range(8):
        how = Search(END, PAD, max_length=5, beams=64, length_penalty=1.0)
        actual = search(Table(seed), torch.tensor([[1]]), how)[0].tolist()
        table, scored = Table(seed), {}
        for length in range(1, 5):
            for tail in itertools.product(range(VOCABULARY), repeat=length):
                ended = tail[-1] == END
                if END in tail[:-1] or (not ended and length < 4):
                    continue
                words = [1, *tail]
                scored[tuple(words)] = logp(table, words) / (len(words) - 1 if ended else len(words))
        best = max(scored, key=lambda words: scored[words])
        assert actual[: len(best)] == list(best), seed


def test_wide_beam_divides_by_a_length_that_counts_the_prompt() -> None:
    prompt = (2, 3, 1)
    for seed in range(8):
        how = Search(END, PAD, max_length=7, beams=64, length_penalty=2.0)
        actual = search(Table(seed, prompt), torch.tensor([[1]]), how)[0].tolist()
        table, scored = Table(seed), {}
        for length in (1, 2, 3):
            for tail in itertools.product(range(VOCABULARY), repeat=length):
                ended = tail[-1] == END
                if END in tail[:-1] or (not ended and length < 3):
                    continue
                words = [1, *prompt, *tail]
                counted = len(words) - 1 if ended else len(words)
                scored[tail] = (logp(table, words) - logp(table, [1, *prompt])) / counted**2.0
        best = max(scored, key=lambda tail: scored[tail])
        assert actual[: 1 + len(best)] == [1, *best], seed


def test_lengths_count_the_prompt_and_the_text_leaves_it_out() -> None:
    for beams in (1, 3):
        how = Search(END, PAD, max_length=8, min_length=7, beams=beams)
        ids = search(Table(1, (2, 3, 1)), torch.tensor([[1], [2]]), how)
        assert ids.shape[1] <= 5 and ids[:, 0].tolist() == [1, 2]
        assert not (ids[:, 1:3] == END).any()
        for most in (4, 3):
            with pytest.raises(UserError, match=f"max_length {most} leaves no word to foretell: texts begin with 4"):
                search(Table(1, (2, 3, 1)), torch.tensor([[1]]), dataclasses.replace(how, max_length=most))


def test_a_word_of_the_prompt_counts_as_said() -> None:
    class Constant(Table):
        def step(self, ids: Tensor) -> Tensor:
            return torch.tensor([[0.0, 2.0, 1.9, 0.0, -9.0]]).expand(ids.shape[0], -1)

    how = Search(END, PAD, max_length=3, repetition_penalty=1.5)
    assert search(Constant(0), torch.tensor([[3]]), how)[0, 1] == 1
    assert search(Constant(0, (1,)), torch.tensor([[3]]), how)[0, 1] == 2


def test_beams_of_rows_do_not_mix() -> None:
    how = Search(END, PAD, max_length=8, beams=3)
    together = search(Table(3), torch.tensor([[1], [2], [3]]), how)
    for row, first in enumerate((1, 2, 3)):
        alone = search(Table(3), torch.tensor([[first]]), how)[0].tolist()
        assert together[row, : len(alone)].tolist() == alone


def test_no_end_before_the_minimum_length() -> None:
    for beams in (1, 3):
        ids = search(Table(1), torch.tensor([[1], [2]]), Search(END, PAD, max_length=8, min_length=6, beams=beams))
        assert not (ids[:, :5] == END).any()


def test_nucleus_keeps_to_the_smallest_set_of_words_that_holds_p() -> None:
    table = Table(2)
    shares = table.scores[0, 1].softmax(-1).sort(descending=True)
    allowed = set(shares.indices[: int((shares.values.cumsum(0) < 0.6).sum()) + 1].tolist())
    drawn = set()
    for seed in range(60):
        how = Search(END, PAD, max_length=2, top_p=0.6)
        drawn.add(int(search(Table(2), torch.tensor([[1]]), how, torch.Generator().manual_seed(seed))[0, 1]))
    assert drawn == allowed


def test_repetition_penalty_makes_a_said_word_less_likely() -> None:
    class Constant(Table):
        def step(self, ids: Tensor) -> Tensor:
            return torch.tensor([[0.0, 2.0, 1.9, 0.0, -9.0]]).expand(ids.shape[0], -1)

    plain = search(Constant(0), torch.tensor([[1]]), Search(END, PAD, max_length=3))
    penalised = search(Constant(0), torch.tensor([[1]]), Search(END, PAD, max_length=3, repetition_penalty=1.5))
    assert plain.tolist() == [[1, 1, 1]] and penalised.tolist() == [[1, 2, 1]]
