"""`compose-vlp doctor`: what this machine offers, which backends run on it and why."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.table import Table
from rich.text import Text

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Json
from compose_vlp.readable import storage

EXAMPLES = (
    ("a table for people", "compose-vlp doctor"),
    ("the same for a script, or a report of a fault", "compose-vlp doctor --json"),
)

State = Literal["fine", "note", "wrong"]
_SIGNS = {"fine": ("✓", "green"), "note": ("·", "yellow"), "wrong": ("✗", "red")}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what follows from it."""

    topic: str
    found: str
    why: str = ""
    state: State = "fine"


def command(as_json: Json = False) -> None:
    """Say what this machine offers and which backends run on it.

    Prints versions, devices, the attention backend that `auto` takes on each device and why, memory, disk, and
    where runs are tracked. Exit code 1 when something is wrong that will stop a run.
    """
    import typer

    findings = list(examine())
    if as_json:
        print_json([asdict(one) for one in findings])
    else:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for one in findings:
            sign, style = _SIGNS[one.state]
            table.add_row(Text(sign, style=style), Text(one.topic, style="bold"), one.found, Text(one.why, style="dim"))
        out().print(table)
    if any(one.state == "wrong" for one in findings):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Everything that decides whether and how fast a model trains here."""
    from compose_vlp.tracking import versions

    for name, version in versions().items():
        yield Finding(name, version)
    yield Finding("platform", platform.platform(), f"{os.cpu_count()} cores")
    yield from _devices()
    yield from _attention()
    yield _memory()
    yield _disk(Path.cwd())
    yield _tracking()


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("cpu", f"{torch.get_num_threads()} threads", _capability())
    if not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        why = "torch was built without CUDA" if built is None else "torch sees no GPU or no driver"
        yield Finding("gpu", "none", f"{why}: everything runs on the CPU", "note")
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        precision = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: use precision fp32"
        size = storage(properties.total_memory)
        yield Finding(
            f"cuda:{number}", f"{properties.name}, {size}", f"{properties.major}.{properties.minor}, {precision}"
        )


def _capability() -> str:
    import torch

    return f"instructions {torch.backends.cpu.get_cpu_capability()}"


def _attention() -> Iterator[Finding]:
    """The backend for the shape that encoders use: heads of width 64."""
    import torch

    from compose_vlp.components.attention.attend import explain

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.zeros(1, 2, 1, 64, device=device, dtype=dtype)
            choice = explain(x, x, x)
            yield Finding(f"attention on {device}, {str(dtype).removeprefix('torch.')}", choice.backend, choice.reason)


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    return Finding("memory", f"{storage(memory.available)} free of {storage(memory.total)}")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    scarce = free < 2e9
    why = "a checkpoint with its optimiser takes 12 bytes a parameter" if scarce else f"in {folder}"
    return Finding("disk", f"{storage(free)} free", why, "note" if scarce else "fine")


def _tracking() -> Finding:
    """Where runs are recorded, and whether that can be written."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return Finding("tracking", uri, "from MLFLOW_TRACKING_URI")
    folder = Path.cwd()
    if not os.access(folder, os.W_OK):
        return Finding("tracking", f"{folder} is not writable", "set MLFLOW_TRACKING_URI, or work elsewhere", "wrong")
    return Finding("tracking", f"sqlite:///{folder / 'mlflow.db'}", "MLFLOW_TRACKING_URI is not set")
