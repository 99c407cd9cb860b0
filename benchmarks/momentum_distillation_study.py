"""What the teacher's soft targets are worth to ALBEF, on right captions and on captions as wrong as the web's.

tiny/albef is trained on `scenes` with and without distillation (`alpha=0`; the teacher and its queue stay), on captions
of which none or 40 % are wrong, and finds unseen pictures by their texts and texts by their pictures. Every finished
cell is a file: run again with the same options it does what is missing. Prints a table in Markdown.

    .venv/bin/python -m benchmarks.momentum_distillation_study                # all of it
    .venv/bin/python -m benchmarks.momentum_distillation_study --budget 30    # so many CPU minutes of it
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmarks.study import ONE, SMALL, Cells, OutOfTime, parser, retrieval, same_study, spread, table, written

STEPS = 700
SIZES = (*SMALL, "components.text.depth=1", "components.fusion.depth=1")
NOISE = (0.0, 0.4)
ALPHAS = {"without": "alpha=0", "with": "params.alpha={linear: [0, 0.4], over: 100 steps}"}
SCORES = {
    "image_to_text_recall_at_1": "text for a picture, R@1",
    "text_to_image_recall_at_1": "picture for a text, R@1",
    "mean_recall": "mean of R@1, 5, 10",
}


def main() -> int:
    """Train, measure, print; 3 where the budget ended it."""
    arguments = parser(str(__doc__), "momentum_distillation", STEPS).parse_args()
    same_study(arguments.out, {"steps": arguments.steps, "pictures": arguments.pictures})
    cells, code = Cells(arguments.out, arguments.budget), 0
    results: dict[tuple[float, str], list[dict[str, Any]]] = {(noise, name): [] for noise in NOISE for name in ALPHAS}
    try:
        for seed in range(arguments.seeds):
            for (noise, name), done in results.items():
                done.append(_cell(cells, noise, name, seed, arguments))
    except OutOfTime:
        code = 3
    rows = [
        [f"{noise:.0%}", name, str(len(done)), *(spread([cell[score] for cell in done]) for score in SCORES)]
        for (noise, name), done in results.items()
    ]
    print(f"\n{table(['wrong captions', 'distillation', 'seeds', *SCORES.values()], rows)}")
    print(f"\n{arguments.steps} steps, {arguments.pictures} unseen pictures, {cells.seconds() / 60:.0f} CPU minutes")
    if code:
        print("the budget is spent: run again to go on")
    return code


def _cell(cells: Cells, noise: float, name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    label = f"noise_{noise:.0%}_{name}_seed_{seed}".replace("%", "")

    def compute() -> dict[str, Any]:
        data = f"data.pairs={written({**ONE, 'noise': noise})}"
        overrides = [*SIZES, data, f"stages.pretrain.length={arguments.steps} steps", ALPHAS[name]]
        return retrieval(cells.trained(label, "tiny/albef", overrides, seed), arguments.pictures)

    return cells.cell(label, compute)


if __name__ == "__main__":
    sys.exit(main())
