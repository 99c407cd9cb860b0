"""Two processes that gather give the losses and gradients of one process that has all rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compose_vlp.components.functions.gathered import gathered
from compose_vlp.components.functions.normalize import normalize
from compose_vlp.components.heads.similarity import Similarity
from compose_vlp.components.losses.contrastive import Contrastive
from compose_vlp.components.losses.next_token import NextToken
from compose_vlp.runtime.processes import Processes
from compose_vlp.values import Embedding, Image, Logits, Number, Part, Scalar, Sequence, Text
from tests.support import average_gradients, spawn

PROCESSES, ROWS = 2, 3
LENGTHS = torch.tensor([5, 2, 3, 2, 2, 4])


class Towers(nn.Module):
    """Two linear towers, a temperature, and a table of word scores."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(6, 4), nn.Linear(5, 4)
        self.similarity = Similarity(Similarity.Config(temperature=0.3))
        self.words = nn.Embedding(9, 9)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Scalar]:
        image = normalize(Embedding(self.image(batch["image"])))
        text = normalize(Embedding(self.text(batch["text"])))
        scores = [self.similarity(image, gathered(text)), self.similarity(text, gathered(image))]
        contrastive = Contrastive(Contrastive.Config(reduction="sum", label_smoothing=0.1))
        lengths = batch["lengths"]
        ids = batch["ids"][:, : int(lengths.max())]  # each process trims its own texts
        foretold = NextToken(NextToken.Config())(Logits(self.words(ids), Text(ids, lengths, 5)))
        return contrastive(scores).value, foretold


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    rows = PROCESSES * ROWS
    return {
        "image": torch.randn(rows, 6, generator=generator),
        "text": torch.randn(rows, 5, generator=generator),
        "ids": torch.randint(1, 9, (rows, 5), generator=generator),
        "lengths": LENGTHS,
    }


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def work(rank: int) -> dict[str, Any]:
    torch.set_default_dtype(torch.float64)  # as in the process that has all rows
    together = Processes(rank, PROCESSES, torch.device("cpu"))
    own = {name: tensor[rank * ROWS : (rank + 1) * ROWS] for name, tensor in batch().items()}
    model = Towers()
    contrastive, foretold = model(own)
    assert foretold.count is not None
    (words,) = together.total([float(foretold.count)])
    loss = contrastive + foretold.value * (foretold.count * PROCESSES / words)
    loss.backward()
    average_gradients(model.parameters(), PROCESSES)
    (total,) = together.total([float(loss.detach())])
    actual = {name: gradient.tolist() for name, gradient in gradients(model).items()}
    return {"loss": total / PROCESSES, "gradients": actual, **other_kinds(rank)}


def other_kinds(rank: int) -> dict[str, Any]:
    """Pictures, texts of different lengths and numbers, gathered."""
    pictures = gathered(Image(torch.full((1, 3, 2, 2), float(rank))))
    ids = torch.full((1, 2 + rank), 5)
    texts = gathered(Text(ids, torch.tensor([2 + rank]), 8, pad=7, given=torch.tensor([rank])))
    numbers = gathered(Number(torch.tensor([10 + rank])))
    features = torch.full((1, 2 + rank, 1), 1.0 + rank, requires_grad=True)
    text = Text(ids, torch.tensor([2 + rank]), 8, pad=7)
    sequence = gathered(Sequence(features, (Part("language", 0, 2 + rank, "first", text),), text.valid))
    patches = gathered(Sequence(features[:, :2], (Part("vision", 0, 2),)))
    assert isinstance(sequence, Sequence)
    assert isinstance(patches, Sequence)
    assert sequence.valid is not None
    assert sequence.parts[0].text is not None
    sequence.features.square().sum().backward()
    assert features.grad is not None
    assert isinstance(pictures, Image)
    assert isinstance(texts, Text)
    assert isinstance(numbers, Number)
    assert texts.given is not None
    return {
        "pictures": pictures.pixels[:, 0, 0, 0].tolist(),
        "texts": (texts.ids.tolist(), texts.lengths.tolist(), texts.given.tolist()),
        "numbers": numbers.values.tolist(),
        "sequence": (sequence.features[..., 0].tolist(), sequence.valid.tolist(), sequence.parts[0].length),
        "of_text": sequence.parts[0].text.ids.tolist(),
        "patches": (patches.features[..., 0].tolist(), patches.valid),
        "slope": features.grad.flatten().tolist(),
    }


def test_two_processes_give_the_losses_and_gradients_of_one() -> None:
    whole = Towers()
    contrastive, foretold = whole(batch())
    loss = contrastive + foretold.value
    loss.backward()
    both = spawn(work, world=PROCESSES)
    for report in both:
        assert abs(report["loss"] - float(loss.detach())) < 1e-5
        for name, expected in gradients(whole).items():
            assert torch.allclose(torch.tensor(report["gradients"][name]), expected, atol=1e-6), name
        assert report["pictures"] == [0.0, 1.0]
        assert report["texts"] == ([[5, 5, 7], [5, 5, 5]], [2, 3], [0, 1])
        assert report["numbers"] == [10, 11]
        assert report["sequence"] == ([[1, 1, 0], [2, 2, 2]], [[True, True, False], [True] * 3], 3)
        assert report["of_text"] == [[5, 5, 7], [5, 5, 5]]
        assert report["patches"] == ([[1, 1], [2, 2]], None)
    assert [report["slope"] for report in both] == [[4.0] * 2, [8.0] * 3]  # twice the value, from both that used it
