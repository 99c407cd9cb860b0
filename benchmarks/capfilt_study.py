"""What CapFilt mends on captions of which 40 % are wrong, and what the mended data is worth.

For each seed: tiny/blip is trained on `scenes` with noise, beside a few clean pairs (the paper's COCO); from it a
captioner and a filter are fine-tuned apart on the clean pairs; they judge the noisy pictures. The generator knows which
captions are wrong, so precision and recall of the kept ones are exact. Then models are trained from nothing, for as
many steps, on raw, filtered, captioned, and captioned and filtered data (the paper's Table 1), always with the clean
pairs, and retrieve unseen pictures.

A web caption is right where the generator says so; a synthetic one where it names things of the picture alone (colour
and shape), and at least one. Every finished cell is a file: run again with the same options it does what is missing.
Prints tables in Markdown.

    .venv/bin/python -m benchmarks.capfilt_study                # all of it
    .venv/bin/python -m benchmarks.capfilt_study --budget 30    # so many CPU minutes of it
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.study import ONE, SMALL, Cells, OutOfTime, parser, retrieval, same_study, spread, table, written
from compose_vlp.api import Blueprint
from compose_vlp.capfilt.captioner import Captioner
from compose_vlp.capfilt.judges import THRESHOLD, judge_of
from compose_vlp.capfilt.settings import Settings
from compose_vlp.capfilt.work import capfilt
from compose_vlp.data import open_source
from compose_vlp.data.corpus import prepare_tokenizers
from compose_vlp.data.scenes.scoring import mentions
from compose_vlp.files import write_atomic
from compose_vlp.runtime.sources import open_tokenizers
from compose_vlp.runtime.state import checkpoint

STEPS = 700
SIZES = (*SMALL, "components.text.depth=2", "params.alpha={linear: [0, 0.4], over: 100 steps}")
NOISE = 0.4
CLEAN_SEED = 1
"""Another world of `scenes`, so that no clean pair is of a noisy picture."""
Text = Mapping[str, Any]


def _fits(text: Text) -> bool:
    return text["score"] is not None and text["score"] >= THRESHOLD


ARMS: dict[str, Callable[[Text], bool]] = {
    "raw": lambda text: text["origin"] == "web",
    "filtered": lambda text: text["origin"] == "web" and _fits(text),
    "captioned": lambda text: text["origin"] in ("web", "synthetic"),
    "captioned and filtered": _fits,
}
"""Which of the judged texts a model is trained on."""
KEPT = {
    "web_precision": "of the kept web texts right",
    "web_recall": "of the right web texts kept",
    "web_right": "of all web texts right",
    "synthetic_right": "of all synthetic texts right",
    "synthetic_precision": "of the kept synthetic texts right",
    "synthetic_kept": "of the synthetic texts kept",
}
SCORES = {
    "image_to_text_recall_at_1": "text for a picture, R@1",
    "text_to_image_recall_at_1": "picture for a text, R@1",
    "mean_recall": "mean of R@1, 5, 10",
}


def main() -> int:
    """Train, judge, measure, print; 3 where the budget ended it."""
    options = parser(str(__doc__), "capfilt", STEPS)
    options.add_argument("--web", type=int, default=4000, help="pictures with noisy captions")
    options.add_argument("--clean", type=int, default=1000, help="pictures with right captions")
    arguments = options.parse_args()
    names = ("steps", "pictures", "web", "clean")
    same_study(arguments.out, {name: getattr(arguments, name) for name in names})
    cells, code = Cells(arguments.out, arguments.budget), 0
    kept: list[dict[str, Any]] = []
    retrievals: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    try:
        for seed in range(arguments.seeds):
            study = Study(cells, seed, arguments)
            retrievals["raw"].append(study.arm("raw"))
            kept.append(study.judged())
            for name in list(ARMS)[1:]:
                retrievals[name].append(study.arm(name))
    except OutOfTime:
        code = 3
    judged = [[words, spread([shares[key] for shares in kept])] for key, words in KEPT.items()]
    print(f"\n{table(['', 'share, %'], judged)}")
    rows = [
        [name, str(len(done)), *(spread([scores[key] for scores in done]) for key in SCORES)]
        for name, done in retrievals.items()
    ]
    print(f"\n{table(['trained on', 'seeds', *SCORES.values()], rows)}")
    print(
        f"\n{arguments.steps} steps, {arguments.web} noisy and {arguments.clean} clean pictures, "
        f"{arguments.pictures} unseen ones, {cells.seconds() / 60:.0f} CPU minutes"
    )
    if code:
        print("the budget is spent: run again to go on")
    return code


@dataclass(frozen=True)
class Study:
    """The models and data of one seed."""

    cells: Cells
    seed: int
    arguments: argparse.Namespace

    def arm(self, name: str) -> dict[str, Any]:
        """Measure what a model retrieves that was trained on one kind of data."""
        label = f"{name.replace(' ', '_')}_seed_{self.seed}"

        def compute() -> dict[str, Any]:
            web = self._noisy() if name == "raw" else self._of_arm(name)
            run = self.cells.trained(label, "tiny/blip", self._pretraining(web), self.seed)
            return retrieval(run, self.arguments.pictures)

        return self.cells.cell(label, compute)

    def judged(self) -> dict[str, Any]:
        """Measure what the filter keeps, against the truth; in percent."""
        return self.cells.cell(f"judged_seed_{self.seed}", self._judge)

    def _judge(self) -> dict[str, Any]:
        captioner = self.cells.trained(f"captioner_seed_{self.seed}", "tiny/blip", self._finetuning("[lm]"), self.seed)
        judge = self.cells.trained(f"filter_seed_{self.seed}", "tiny/blip", self._finetuning("[itc, itm]"), self.seed)
        noisy = self._noisy_settings()
        capfilt(
            open_source(noisy),
            judge_of(judge.asker, "filter", threshold=0.0),  # all are kept; what would be dropped is seen by the scores
            Captioner.of(captioner.asker, "captioner"),
            self._folder,
            Settings(seed=self.seed),
            described=noisy,
        )
        return precision_and_recall(self._lines(), open_source(noisy))

    def _of_arm(self, name: str) -> str | None:
        """The data of an arm, from the judged texts; None where none of them is taken."""
        lines = []
        for line in self._lines():
            texts = [text["text"] for text in line["texts"] if ARMS[name](text)]
            if texts:
                lines.append(json.dumps({"image": line["image"], "caption": texts}))
        file = self._folder / f"{name.replace(' ', '_')}.jsonl"
        write_atomic(file, "".join(f"{line}\n" for line in lines))
        return f"{{use: jsonl, path: '{file}'}}" if lines else None

    def _lines(self) -> list[dict[str, Any]]:
        lines = (self._folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    @property
    def _folder(self) -> Path:
        return self.cells.folder / f"capfilt_seed_{self.seed}"

    def _pretraining(self, web: str | None) -> list[str]:
        """On these data and the clean pairs, or on the clean pairs alone."""
        length = f"stages.pretrain.length={self.arguments.steps} steps"
        if web is None:
            return [*self._common(), "stages.pretrain.data=clean", length]
        shares = f"{{web: {self.arguments.web}, clean: {self.arguments.clean}}}"
        return [
            *self._common(),
            f"+data.web={web}",
            f"+data.all={{mix: {shares}}}",
            "stages.pretrain.data=all",
            length,
        ]

    def _finetuning(self, losses: str) -> list[str]:
        """A third of the steps, from the model that was trained on the raw data."""
        raw = checkpoint.latest(self.cells.run(f"raw_seed_{self.seed}") / "checkpoints")
        assert raw is not None, "the raw model is trained first"
        return [
            *self._common(),
            "stages.pretrain.data=clean",
            f"stages.pretrain.losses={losses}",
            f"stages.pretrain.length={max(1, self.arguments.steps // 3)} steps",
            "params.lr={cosine: [3e-4, 1e-5]}",
            f"start=[{{from: '{raw / 'model.safetensors'}'}}]",
        ]

    def _common(self) -> list[str]:
        clean = written({**ONE, "seed": CLEAN_SEED, "count": self.arguments.clean})
        vocabulary = self._vocabulary()
        words = len(json.loads(vocabulary.read_text(encoding="utf-8"))["model"]["vocab"])
        return [
            *SIZES,
            f"components.bert.file={vocabulary}",
            f"components.bert.vocab_size={words}",
            f"+data.clean={clean}",
        ]

    def _vocabulary(self) -> Path:
        """One vocabulary for all models, learnt from the noisy captions."""
        folder = self.cells.folder / "vocabulary"
        if not folder.is_dir():
            checked = Blueprint.load("tiny/blip").check()
            tokenizers = open_tokenizers(checked)
            prepare_tokenizers(tokenizers, checked.inputs, {"main": open_source(self._noisy_settings())})
            folder.mkdir(parents=True)
            tokenizers["bert"].save(folder)
        return folder / "tokenizer.json"

    def _noisy_settings(self) -> dict[str, Any]:
        return {**ONE, "count": self.arguments.web, "noise": NOISE}

    def _noisy(self) -> str:
        return written(self._noisy_settings())


def precision_and_recall(lines: list[dict[str, Any]], source: Any) -> dict[str, float]:
    """Shares in percent of judged texts against the truth of `scenes`."""
    counts: Counter[tuple[str, bool, bool]] = Counter()
    for line in lines:
        record = source.record(line["record"])
        things = {(thing.colour, thing.shape) for thing in record["scene"].things}
        for text in line["texts"]:
            named = mentions(text["text"])
            right = record["caption_right"] if text["origin"] == "web" else bool(named) and set(named) <= things
            counts[text["origin"], right, _fits(text)] += 1
    shares: dict[str, float] = {}
    for origin in ("web", "synthetic"):
        right, kept = counts[origin, True, True] + counts[origin, True, False], counts[origin, True, True]
        all_kept = kept + counts[origin, False, True]
        total = all_kept + counts[origin, True, False] + counts[origin, False, False]
        shares |= {
            f"{origin}_precision": _percent(kept, all_kept),
            f"{origin}_recall": _percent(kept, right),
            f"{origin}_right": _percent(right, total),
            f"{origin}_kept": _percent(all_kept, total),
        }
    return shares


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else float("nan")


if __name__ == "__main__":
    sys.exit(main())
