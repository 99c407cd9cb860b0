"""What this machine can run, found out by running it: devices, precision, attention, tokenizers, room."""

from __future__ import annotations

import os
import platform
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from compose_vlp.readable import several, storage

State = Literal["fine", "note", "wrong"]
SIGNS: dict[State, str] = {"fine": "✓", "note": "·", "wrong": "✗"}
SCARCE = 2e9  # bytes of disk
SHARED = Path("/dev/shm")  # no file of ours: where Linux keeps shared memory
MORE_SHARED = "`--shm-size=8g` or `--ipc=host` gives a container of Docker more, and `--workers 0` needs none"
SMALL = 1e9  # bytes of shared memory: a few batches of 64 pictures in float32
CLOSE = {"float32": 1e-5, "bfloat16": 2e-2}  # largest difference from eager attention in float32


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and why. `wrong` is what will stop a run."""

    topic: str
    found: str
    why: str = ""
    state: State = "fine"


def examine(folder: Path) -> Iterator[Finding]:
    """Everything that decides whether and how fast a model trains here, with `folder` to write in."""
    yield Finding(
        "platform", platform.platform(), f"python {platform.python_version()}, {several(os.cpu_count() or 1, 'core')}"
    )
    yield from _torch()
    yield _xformers()
    yield from attention()
    yield _tokenizers()
    yield _memory()
    yield _kept()
    yield _shared_memory()
    yield _disk(folder)


def as_text(findings: Iterable[Finding], width: int) -> list[str]:
    """Write a text for each finding, in columns; the first character says how it stands.

    A reason that `width` has no room for stands below what was found. What has no blank, as a path, is never cut.
    """
    rows = list(findings)
    topic_width = max((len(row.topic) for row in rows), default=0)
    room = width - topic_width - 4
    short = [len(row.found) for row in rows if len(row.found) + 2 + len(row.why) <= room]
    found_width = max(short, default=0)
    below = "\n" + " " * (topic_width + 4)
    texts = []
    for row in rows:
        beside = f"{row.found:{found_width}}  {row.why}".rstrip()
        lines = [beside] if len(beside) <= room else [*_wrapped(row.found, room), *_wrapped(row.why, room)]
        texts.append(f"{SIGNS[row.state]} {row.topic:{topic_width}}  {below.join(lines)}".rstrip())
    return texts


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False)


# --- torch ------------------------------------------------------------------------------------------------------


def _torch() -> Iterator[Finding]:
    import torch

    yield Finding("torch", torch.__version__, f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA")
    yield Finding(
        "cpu", several(torch.get_num_threads(), "thread"), f"instructions {torch.backends.cpu.get_cpu_capability()}"
    )
    fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 (torch asks itself so; nothing public does)
    why = "in hardware" if fast else "computed by way of float32: slower than fp32, and less exact"
    yield Finding("bf16 on cpu", "yes" if fast else "emulated", why, "fine" if fast else "note")
    if not torch.cuda.is_available():
        why = "torch sees no GPU or no driver" if torch.version.cuda else "torch was built without CUDA"
        yield Finding("gpu", "none", f"{why}: everything runs on the CPU", "note")
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        yield Finding(
            f"cuda:{number}", f"{gpu.name}, {storage(gpu.total_memory)}", f"capability {gpu.major}.{gpu.minor}"
        )
        yield Finding(f"bf16 on cuda:{number}", "yes" if native else "no", "" if native else "use precision: fp32")


def _xformers() -> Finding:
    try:
        version = metadata.version("xformers")
    except metadata.PackageNotFoundError:
        return Finding(
            "xformers", "not installed", "it has wheels for Linux on x86-64 alone; sdpa does its work", "note"
        )
    return Finding("xformers", version, "used on CUDA")


# --- attention --------------------------------------------------------------------------------------------------


def attention() -> Iterator[Finding]:
    """For each device and precision what `auto` takes and why; for each backend whether it gives eager's numbers."""
    import torch

    from compose_vlp.components.attention.attend import BACKENDS

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for dtype in (torch.float32, torch.bfloat16):
            yield _chosen(device, dtype)
    for device in devices:
        for backend in BACKENDS:
            yield tried(backend, device)


def _named(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _chosen(device: str, dtype: Any) -> Finding:
    import torch

    from compose_vlp.components.attention.attend import explain
    from compose_vlp.errors import UserError

    x = torch.zeros(1, 2, 1, 64, device=device, dtype=dtype)
    topic = f"attention on {device}, {_named(dtype)}"
    try:
        choice = explain(x, x, x)
    except UserError as error:  # the variable asks for what is not there
        return Finding(topic, "none", str(error), "wrong")
    return Finding(topic, choice.backend, choice.reason)


def tried(backend: str, device: str) -> Finding:
    """Compare a backend with eager on a tiny causal batch of ragged rows, one of them empty, forward and backward."""
    import torch

    from compose_vlp.errors import UserError

    topic = f"  {backend} on {device}"
    expected = _outcome("eager", "cpu", torch.float32)
    scale = max(float(t.abs().max()) for t in expected)
    measured, right = [], True
    for dtype in (torch.float32, torch.bfloat16):
        try:
            got = _outcome(backend, device, dtype)
        except UserError as error:
            return Finding(topic, "not here", error.args[0].rpartition(": ")[2], "note")
        except (RuntimeError, ImportError, ValueError) as error:  # a kernel or library that does not fit the machine
            return Finding(topic, "fails", f"{type(error).__name__}: {str(error).splitlines()[0][:120]}", "wrong")
        differences = torch.stack([(a - b).abs().max() for a, b in zip(got, expected, strict=True)])
        difference = float(differences.max()) / scale  # NaN if any of them is
        right &= difference <= CLOSE[_named(dtype)]
        measured.append(f"{_named(dtype)} to {difference:.0e}")
    why = f"equals eager attention, {' and '.join(measured)}" if right else f"differs from eager: {', '.join(measured)}"
    return Finding(topic, "works" if right else "wrong", why, "fine" if right else "wrong")


def _outcome(backend: str, device: str, dtype: Any) -> list[Any]:
    """Compute the output and the gradients of queries, keys and values, in float32 on the CPU."""
    import torch

    from compose_vlp.components.attention.attend import attend, use_backend

    made = torch.Generator().manual_seed(0)
    inputs = [torch.randn(3, 5, 2, 16, generator=made).to(device, dtype).requires_grad_() for _ in range(3)]
    valid = torch.arange(5) < torch.tensor([5, 2, 0])[:, None]
    with use_backend(backend):
        out = attend(*inputs, valid=valid.to(device), causal=True)
    return [t.detach().float().cpu() for t in (out, *torch.autograd.grad(out.square().sum(), inputs))]


# --- the rest ---------------------------------------------------------------------------------------------------


def _tokenizers() -> Finding:
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.train_from_iterator(["a cat", "a car"], trainers.BpeTrainer(vocab_size=12, show_progress=False))
    trained = tokenizer.decode(tokenizer.encode("cat").ids).replace(" ", "") == "cat"
    parallel = os.environ.get("TOKENIZERS_PARALLELISM", "on")
    return Finding(
        "tokenizers", metadata.version("tokenizers"), f"trains and encodes; parallelism {parallel}",
        "fine" if trained else "wrong",
    )  # fmt: skip


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    return Finding("memory", f"{storage(memory.available)} free of {storage(memory.total)}")


def _kept() -> Finding:
    """What training on the CPU does with memory that a step gives up."""
    from compose_vlp.allocator import explain

    choice = explain()
    return Finding("freed memory", "kept" if choice.kept else "given back", choice.reason)


def _shared_memory() -> Finding:
    """By it readers of data hand over batches; Docker gives a container 64 MB."""
    if not SHARED.is_dir():
        return Finding(
            "shared memory", f"no {SHARED}", f"readers of data send batches through pipes; {MORE_SHARED}", "note"
        )
    room = shutil.disk_usage(SHARED)
    if room.free < SMALL:
        why = f"larger batches of several readers go through pipes, which takes longer; {MORE_SHARED}"
        return Finding("shared memory", f"{storage(room.free)} free of {storage(room.total)}", why, "note")
    return Finding("shared memory", f"{storage(room.free)} free of {storage(room.total)}", f"in {SHARED}")


def shared_size() -> str:
    """Name the shared memory, with its size."""
    if not SHARED.is_dir():
        return f"{SHARED}, which is not there,"
    return f"{SHARED} ({storage(shutil.disk_usage(SHARED).total)})"


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return Finding("disk", f"{folder} is not writable", "runs are written below the working folder", "wrong")
    if free < SCARCE:
        return Finding(
            "disk", f"{storage(free)} free", "a checkpoint with its optimiser takes 12 bytes a weight", "note"
        )
    return Finding("disk", f"{storage(free)} free", f"in {folder}")
