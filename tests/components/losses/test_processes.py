"""Two processes that gather give the losses and gradients of one process that has all rows."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from compose_vlp.components.functions.gathered import gathered
from compose_vlp.components.functions.normalize import normalize
from compose_vlp.components.heads.similarity import Similarity
from compose_vlp.components.losses.contrastive import Contrastive
from compose_vlp.components.losses.next_token import NextToken
from compose_vlp.values import Embedding, Image, Logits, Number, Text

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

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        image = normalize(Embedding(self.image(batch["image"])))
        text = normalize(Embedding(self.text(batch["text"])))
        scores = [self.similarity(image, gathered(text)), self.similarity(text, gathered(image))]
        contrastive = Contrastive(Contrastive.Config(reduction="sum", label_smoothing=0.1))
        lengths = batch["lengths"]
        ids = batch["ids"][:, : int(lengths.max())]  # each process trims its own texts
        foretold = NextToken(NextToken.Config())(Logits(self.words(ids), Text(ids, lengths, 5)))
        return contrastive(scores).value + foretold.value


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


def work(rank: int, store: str, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=PROCESSES)
    try:
        own = {name: tensor[rank * ROWS : (rank + 1) * ROWS] for name, tensor in batch().items()}
        model = nn.parallel.DistributedDataParallel(Towers())
        loss = model(own)
        loss.backward()
        found = {
            "loss": float(loss.detach()),
            "gradients": {name: g.tolist() for name, g in gradients(model.module).items()},
            **other_kinds(rank),
        }
        results.put((rank, found))
    finally:
        dist.destroy_process_group()


def other_kinds(rank: int) -> dict[str, Any]:
    """Pictures, texts of different lengths and numbers, gathered; and what evaluation without gradients counts."""
    pictures = gathered(Image(torch.full((1, 3, 2, 2), float(rank))))
    ids = torch.full((1, 2 + rank), 5)
    texts = gathered(Text(ids, torch.tensor([2 + rank]), 8, pad=7, given=torch.tensor([rank])))
    numbers = gathered(Number(torch.tensor([10 + rank])))
    assert isinstance(pictures, Image)
    assert isinstance(texts, Text)
    assert isinstance(numbers, Number)
    assert texts.given is not None
    with torch.no_grad():
        scores = torch.zeros(1, 2 + rank, 9)
        alone = NextToken(NextToken.Config())(Logits(scores, Text(ids, torch.tensor([2 + rank]), 8))).value
    return {
        "pictures": pictures.pixels[:, 0, 0, 0].tolist(),
        "texts": (texts.ids.tolist(), texts.lengths.tolist(), texts.given.tolist()),
        "numbers": numbers.values.tolist(),
        "alone": float(alone),
    }


def run_processes(folder: Path) -> dict[int, dict[str, Any]]:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=work, args=(rank, str(folder / "store"), results)) for rank in range(PROCESSES)]
    for worker in workers:
        worker.start()
    found = dict(results.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(timeout=60)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    return found


def test_two_processes_give_the_losses_and_gradients_of_one(tmp_path: Path) -> None:
    whole = Towers()
    loss = whole(batch())
    loss.backward()
    found = run_processes(tmp_path)
    mean = sum(one["loss"] for one in found.values()) / PROCESSES
    assert abs(mean - float(loss.detach())) < 1e-5
    for one in found.values():  # already averaged by DDP
        for name, wanted in gradients(whole).items():
            assert torch.allclose(torch.tensor(one["gradients"][name]), wanted, atol=1e-6), name
        assert one["pictures"] == [0.0, 1.0]
        assert one["texts"] == ([[5, 5, 7], [5, 5, 5]], [2, 3], [0, 1])
        assert one["numbers"] == [10, 11]
        assert abs(one["alone"] - torch.tensor(9.0).log()) < 1e-5
