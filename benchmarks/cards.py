"""What a card can do by its maker's word, and what the machine is."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from typing import Any, Final

import torch

TERA: Final = 1e12
PEAKS: Final = {
    "B200": 2250,
    "GH200": 989,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "A10G": 70,
    "A10": 125,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
"""Dense bfloat16 products with float32 sums, in TFLOP a second, as NVIDIA's data sheets state them (which often print
the double, with sparsity). The first name that stands in torch's name of the card is the card's."""


def stated_peak(card: str) -> float | None:
    """Give the stated dense bfloat16 rate of a card, in FLOP a second; None where this table does not know it."""
    return next((rate * TERA for name, rate in PEAKS.items() if name in card), None)


def machine(device: torch.device) -> dict[str, Any]:
    """Describe what figures were measured on: card, driver and versions."""
    described: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "xformers": _version("xformers"),
        "open_clip": _version("open_clip_torch"),
    }
    if device.type != "cuda":
        return {"card": f"none: {platform.machine()}, {torch.get_num_threads()} threads", **described}
    card = torch.cuda.get_device_properties(device)
    return {
        "card": card.name,
        "memory_gb": round(card.total_memory / 1e9, 1),
        "capability": f"{card.major}.{card.minor}",
        "driver": _driver(),
        "cuda": torch.version.cuda,
        **described,
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _driver() -> str:
    command = shutil.which("nvidia-smi")
    if command is None:
        return "unknown: no nvidia-smi"
    asked = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    printed = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    return printed[0] if printed else "unknown"
