"""What every test may lean on: quiet libraries, no network, few threads, and the folders beside the checkout."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from compose_vlp.api import Blueprint

ROOT = Path(__file__).resolve().parent.parent

# Read by torch and by the hub clients when they are first imported, so they are set before any test module is.
if "PYTEST_XDIST_WORKER" in os.environ:
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
gc.set_threshold(50_000)  # imports and tests leave few circles, and looking for them takes a sixth


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: it need not be searched for circles again and again."""
    gc.freeze()


def pytest_sessionstart(session: pytest.Session) -> None:
    """`pytest -m gpu` asks for a GPU: where none is visible it ends at once, and nothing counts as skipped."""
    if session.config.option.markexpr == "gpu" and not _sees_gpu():
        pytest.exit(f"{NO_GPU}: run `nvidia-smi`, and `compose-vlp doctor`", returncode=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a GPU, what needs one is skipped where other tests run."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _sees_gpu():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=NO_GPU))


NO_GPU = "torch sees no GPU here"


def _sees_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="module")
def small_chunks() -> Iterator[None]:
    """Losses make scores in chunks of three rows, where there are more: the steps of tests have few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compose_vlp.components.layers.summed_loss.CHUNK", 3)
        yield


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """`shared/` beside the checkout: oracles and real data, which the project never depends on."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: oracles and real data are kept beside the checkout, not in it")
    return folder


@pytest.fixture(scope="session")
def oracle(shared_dir: Path) -> Callable[[str], Path]:
    """`oracle("coca/pretrain")` is the folder of that oracle; the test is skipped where it is not there."""

    def find(name: str) -> Path:
        folder = shared_dir / "oracles" / name
        if not folder.is_dir():
            pytest.skip(f"no oracle {folder}")
        return folder

    return find


@pytest.fixture(scope="session")
def real_data(shared_dir: Path) -> Callable[[str], Path]:
    """`real_data("nlvr")` is the folder of that data set; the test is skipped where it is not there."""

    def find(name: str) -> Path:
        folder = shared_dir / "data" / name
        if not folder.is_dir():
            pytest.skip(f"no data in {folder}")
        return folder

    return find


@pytest.fixture(autouse=True)
def _no_ambient_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test never writes to the tracking store of whoever runs it."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def double() -> Iterator[None]:
    """New tensors and parameters are float64: two ways of computing the same then agree on every machine's kernels."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def _same_draws_every_time() -> None:
    """Torch's generator starts at 0 in every test that uses torch, whatever ran before it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


SMALL = (
    "inputs.image.size=16",
    "components.vision.patch=8",
    "components.vision.stem=patch",
    "components.vision.stem_depth=0",
    "components.*.width=32",
    "components.*.mlp_width=48",
    "components.pool_many.queries=5",
    "components.image_proj.out=24",
    "components.text_proj.out=24",
    "components.bpe.vocab_size=300",
    "inputs.caption.max_length=12",
)


@pytest.fixture(scope="session")
def small_coca() -> Callable[..., Blueprint]:
    """A CoCa of a few thousand weights; `small_coca("path=value", ...)` with more overrides, put before its own."""

    def load(*overrides: str, plugins: Sequence[Path] = ()) -> Blueprint:
        from compose_vlp.api import Blueprint

        written = {override.split("=")[0] for override in overrides}
        chosen = [override for override in SMALL if override.split("=")[0] not in written]
        return Blueprint.load("tiny/coca", overrides=[*chosen, *overrides], plugins=plugins)

    return load
