"""Training steps on a GPU, in one command: `python -m benchmarks.gpu`.

The five papers at base size and CoCa-Large, with the compiler's passes and without, layers under `torch.compile` and
not; beside open_clip's CoCa, torchscale's BEiT-3 and the authors' order of calls of ALBEF, BLIP and VLMo, which all
have torch's fused attention and AdamW here; and steps of the 2.1B CoCa and the 1.9B BEiT-3, with layers computed again
in the backward. All in bfloat16 by autocast.

Each row is measured in a process of its own and kept as a file of the folder, so that a run that was stopped goes on,
and one row without memory (which is tried again with half the batch) costs no other. The folder then has `gpu.md` and
`gpu.json`.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.cards import machine
from benchmarks.gpu_opponents import OURS, SDPA_ORDER, Maker, official_order, open_clip, torchscale
from benchmarks.gpu_steps import Ours, measure

Found = dict[str, Any]
NO_GPU: Final = 2
"""The exit code where no GPU is visible."""
NO_MEMORY: Final = "out of memory"
AGREE: Final = 0.03
"""Relative distance of losses in bfloat16, up to which a pair counts as the same work."""
BASE, LARGE, GIANT, TINY = 64, 64, 16, 4
"""Rows of a batch that are tried first."""


@dataclass(frozen=True)
class Row:
    """Name what is measured in a process of its own; `beside` is the row of the same work by us."""

    name: str
    batch: int
    make: Maker
    beside: str | None = None


def rows(tiny: bool) -> dict[str, Row]:
    """All rows by name, in the order in which they are measured."""
    return {row.name: row for row in (*_programs(tiny), *_pairs(tiny), *_giants(tiny))}


def _programs(tiny: bool) -> Iterable[Row]:
    stages = {"albef": "pretrain", "blip": "pretrain", "coca_base": "pretrain", "vlmo_base": "pairs",
              "beit3_base": "pretrain", "coca_large": "pretrain"}  # fmt: skip
    for paper, stage in stages.items():
        blueprint = f"tiny/{paper.split('_')[0]}" if tiny else paper
        batch = TINY if tiny else LARGE if paper == "coca_large" else BASE
        for passes, compiled in ((True, False), (False, False), (True, True), (False, True)):
            words = ("passes" if passes else "no passes", *(("compiled",) if compiled else ()))
            ours = Ours((blueprint,), stage if not tiny or paper != "vlmo_base" else "pairs", passes, compiled)
            yield Row(f"{paper}, {', '.join(words)}", batch, ours.make)


def _pairs(tiny: bool) -> Iterable[Row]:
    batch = TINY if tiny else BASE
    for paper in ("albef", "blip", "vlmo"):
        orders = [official_order(f"{paper}_step", name, tiny) for name in (OURS, SDPA_ORDER)]
        yield from _pair(f"{paper} without noise", "the authors' order", batch, *orders)
    retrieval = [torchscale(name, tiny) for name in (OURS, "torchscale")]
    yield from _pair("beit3 retrieval", "torchscale", batch, *retrieval)
    for size in () if tiny else ("coca_ViT-B-32", "coca_ViT-L-14"):
        yield from _pair(size, "open_clip", batch, *(open_clip(size, name) for name in (OURS, "open_clip")))


def _pair(work: str, opponent: str, batch: int, ours: Maker, its: Maker) -> Iterable[Row]:
    yield Row(f"{work}: ours", batch, ours)
    yield Row(f"{work}: {opponent}", batch, its, beside=f"{work}: ours")


def _giants(tiny: bool) -> Iterable[Row]:
    for paper in ("coca", "beit3"):
        blueprint, batch = (f"tiny/{paper}", TINY) if tiny else (paper, GIANT)
        yield Row(f"{paper}, recomputed", batch, Ours((blueprint,), "pretrain", recomputed=True).make)


# --- one row


def measure_row(row: Row, batch: int, arguments: argparse.Namespace) -> Found:
    """Measure a row here; where memory does not suffice, say so and give no figures."""
    device = torch.device(arguments.device)
    result: Found = {"row": row.name, "batch": batch, "beside": row.beside}
    try:
        return {**result, **measure(row.make(batch, device), device, arguments.warm_up, arguments.rounds)}
    except torch.OutOfMemoryError:
        return {**result, "failed": NO_MEMORY}


def in_a_process(row: Row, batch: int, arguments: argparse.Namespace) -> Found:
    """The same in a process of its own, whose failure is told by the last line that it said."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--row", row.name, "--batch", str(batch),
               "--device", arguments.device, "--rounds", str(arguments.rounds), "--warm-up", str(arguments.warm_up),
               *(["--tiny"] if arguments.tiny else [])]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        result: Found = json.loads(done.stdout.splitlines()[-1])
        return result
    errors = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
    return {"row": row.name, "batch": batch, "beside": row.beside, "failed": errors[-1][:200]}


def measure_all(
    chosen: Iterable[Row],
    folder: Path,
    arguments: argparse.Namespace,
    run: Callable[[Row, int, argparse.Namespace], Found] = in_a_process,
) -> list[Found]:
    """Measure what the folder does not have yet, as long as the minutes last; give all that it has of these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = math.inf if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    results = []
    for row in chosen:
        file = folder / f"{''.join(c if c.isalnum() else '_' for c in row.name)}.json"
        result: Found | None = json.loads(file.read_text()) if file.exists() else None
        if (result is None or "failed" in result) and time.monotonic() < ends:
            result = _with_what_fits(row, arguments, run)
            file.write_text(json.dumps(result), encoding="utf-8")
            print(f"{row.name}: {result.get('failed') or _short(result)}", flush=True)
        if result is not None:
            results.append(result)
    return results


def _with_what_fits(row: Row, arguments: argparse.Namespace, run: Callable[..., Found]) -> Found:
    batch = arguments.batch or row.batch
    result = run(row, batch, arguments)
    while result.get("failed") == NO_MEMORY and batch > 1:
        batch //= 2
        result = run(row, batch, arguments)
    return result


# --- what is told


def tables(results: list[Found], described: Mapping[str, Any]) -> str:
    """Markdown of the machine, the steps, and the opponents beside ours."""
    lines = [
        "# Training steps on a GPU",
        "",
        *(f"- {name}: {value}" for name, value in described.items()),
        "",
        "| | batch | step | pictures/s | of the stated peak | most memory |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        if "failed" in result:
            lines.append(f"| {result['row']} | {result['batch']} | {result['failed']} | | | |")
            continue
        share = "unknown" if result["mfu"] is None else f"{100 * result['mfu']:.1f} %"
        lines.append(
            f"| {result['row']} | {result['batch']} | {1e3 * result['step_s']:.1f} ms | {result['pictures_s']:.0f} | "
            f"{share} | {result['peak_bytes'] / 1e9:.1f} GB |"
        )
    return "\n".join([*lines, *_beside(results), ""])


def _beside(results: list[Found]) -> list[str]:
    by_name = {result["row"]: result for result in results if "failed" not in result}
    lines, factors = list[str](), list[float]()
    for result in by_name.values():
        ours = by_name.get(result["beside"] or "")
        if ours is None:
            continue
        factor = ours["pictures_s"] / result["pictures_s"]
        apart = max(abs(ours["losses"][name] - loss) / abs(loss) for name, loss in result["losses"].items())
        same = apart <= AGREE and ours["batch"] == result["batch"]
        factors += [factor] if same else []
        note = f"{apart:.1e}" if same else f"{apart:.1e}, batches {ours['batch']} and {result['batch']}: does not count"
        lines.append(f"| {result['row']} | {factor:.2f} | {note} |")
    if not lines:
        return []
    head = ["", "| opponent | pictures/s of ours, by its | losses differ by |", "|---|---|---|"]
    mean = [f"\nGeometric mean: {math.exp(statistics.fmean(map(math.log, factors))):.2f}"] if factors else []
    return [*head, *lines, *mean]


def _short(result: Found) -> str:
    return f"batch {result['batch']}, {1e3 * result['step_s']:.1f} ms, {result['peak_bytes'] / 1e9:.1f} GB"


def main(given: list[str] | None = None) -> int:
    """Measure, print and write; 1 where a row failed, 2 where there is no GPU."""
    arguments = _parser().parse_args(given)
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("torch sees no GPU here (run `nvidia-smi`, and `compose-vlp doctor`); to try the benchmark itself: "
              "--device cpu --tiny", file=sys.stderr)  # fmt: skip
        return NO_GPU
    every = rows(arguments.tiny)
    if arguments.row:
        print(json.dumps(measure_row(every[arguments.row], arguments.batch, arguments)))
        return 0
    chosen = [row for row in every.values() if fnmatch.fnmatch(row.name, arguments.only)]
    if arguments.list or not chosen:
        print("\n".join(every))
        return 0 if arguments.list else 1
    folder = Path(arguments.out)
    results = measure_all(chosen, folder, arguments)
    described = machine(torch.device(arguments.device))
    text = tables(results, described)
    print(f"\n{text}")
    (folder / "gpu.md").write_text(text, encoding="utf-8")
    (folder / "gpu.json").write_text(json.dumps({"machine": described, "rows": results}, indent=1), encoding="utf-8")
    return 1 if len(results) < len(chosen) or any("failed" in result for result in results) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--out", default="build/gpu", help="the folder of what was measured; a second run goes on there"
    )
    parser.add_argument("--only", default="*", help='rows by a pattern of their names: --only "coca*"')
    parser.add_argument("--list", action="store_true", help="names of the rows")
    parser.add_argument("--minutes", type=float, help="begin no row after so many")
    parser.add_argument("--batch", type=int, help="rows of a batch, for all; half of it where memory does not suffice")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--warm-up", type=int, default=9, help="steps that are not counted; layers are compiled in them"
    )
    parser.add_argument("--device", default="cuda", help="cpu, with --tiny: to try the benchmark itself")
    parser.add_argument("--tiny", action="store_true", help="the papers' tiny siblings (not open_clip)")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
