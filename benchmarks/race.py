"""All races of whole optimiser steps, one after the other: `python -m benchmarks.race`.

    albef    the authors' order of calls, written over the same components      benchmarks.albef_step
    blip     likewise, captions padded to their frame                            benchmarks.blip_step
    blip-library    transformers' towers in that order of calls                 benchmarks.blip_step
    vlmo     likewise                                                            benchmarks.vlmo_step
    beit3    torchscale's BEiT-3 under the authors' retrieval loss               benchmarks.beit3_step
    coca     open_clip's CoCa ViT-B/32                                           benchmarks.coca_step

Beside each opponent stands the same with our optimiser (fused AdamW, the teacher in one sweep) and, where the code is
not the authors', trimmed texts: it shows what the compiler's part is. Nothing is timed whose losses and gradients
differ; `--weights` compares weights after five steps in float64, too.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from compose_vlp.bench.steps import peak_flops

RACES = {
    "albef": ("albef_step", ("--all",)),
    "blip": ("blip_step", ("--all",)),
    "blip-library": ("blip_step", ("--library", "--all")),
    "vlmo": ("vlmo_step", ("--all",)),
    "beit3": ("beit3_step", ()),
    "coca": ("coca_step", ()),
}


def main() -> int:
    """Run the races in processes of their own, and print one table of all; 1 where one of them failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("papers", nargs="*", default=[], help=f"of {', '.join(RACES)}; all, if left out")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", default="base", choices=("base", "tiny"), help="tiny: to try the races")
    parser.add_argument("--weights", action="store_true", help="compare weights after five steps, in float64")
    parser.add_argument("--peak", action="store_true", help="peak memory, each candidate in a process of its own")
    arguments = parser.parse_args()
    unknown = set(arguments.papers) - RACES.keys()
    if unknown:
        parser.error(f"no race is called {', '.join(sorted(unknown))}; there are {', '.join(RACES)}")
    print(
        f"matrix products of float32 here: {peak_flops(torch.device('cpu')) / 1e9:.0f} GFLOP a second at most\n",
        flush=True,
    )
    results = [result for paper in arguments.papers or RACES if (result := _run(paper, arguments)) is not None]
    _print(results)
    return 0 if len(results) == len(arguments.papers or RACES) else 1


def _run(paper: str, arguments: argparse.Namespace) -> dict[str, Any] | None:
    module, extra = RACES[paper]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{module}", "--rounds", str(arguments.rounds), *extra,
                   "--batch", str(arguments.batch), "--size", arguments.size, "--json", str(file)]  # fmt: skip
        command += ["--weights"] if arguments.weights else []
        command += ["--peak"] if arguments.peak and paper != "coca" else []
        done = subprocess.run(command, check=False)
        print(flush=True)
        result: dict[str, Any] | None = json.loads(file.read_text()) if done.returncode == 0 else None
    return result


def _print(results: list[dict[str, Any]]) -> None:
    print("| race | opponent | ours, s | its, s | times as long | our FLOPs of its |\n|---|---|---|---|---|---|")
    factors = []
    for race in results:
        for name, (ours, its) in ((name, pair.values()) for name, pair in race["seconds"].items()):
            ratio = statistics.median(there / here for here, there in zip(ours, its, strict=True))
            share = race["flops"]["ours"] / race["flops"][name]
            medians = f"{statistics.median(ours):.2f} | {statistics.median(its):.2f}"
            print(f"| {race['title']} | {name} | {medians} | {ratio:.2f} | {share:.2f} |")
            factors += [] if name.endswith("+") else [ratio]
    if factors:
        mean = math.exp(statistics.fmean(map(math.log, factors)))
        print(f"\ngeometric mean over the opponents as they are: {mean:.2f}")


if __name__ == "__main__":
    sys.exit(main())
