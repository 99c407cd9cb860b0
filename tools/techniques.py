"""Measure what a technique costs: its file, its lines, the files that know of it, and the one override that has it.

`python tools/techniques.py` prints the table that `docs/decisions` quotes. Each override is laid over the five papers'
full-size blueprints and checked, so the table is of what works now.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from compose_vlp import registry
from compose_vlp.api import Blueprint
from compose_vlp.graph.graph import CheckedBlueprint
from tools.house import ROOT, sources

PAPERS = {
    "ALBEF": (("albef",), "itc"),
    "BLIP": (("blip",), "itc"),
    "CoCa": (("coca",), "contrastive"),
    "VLMo": (("vlmo_base",), "itc"),
    "BEiT-3": (("beit3_base", "tasks/beit3/retrieval"), "contrast"),
}
"""Each paper's blueprints, and what its contrastive loss is called there."""


@dataclass(frozen=True)
class Technique:
    """A kind, and the override that puts it into a paper; `{loss}` is what the paper's contrastive loss is called."""

    title: str
    kind: str
    override: str

    def file(self) -> Path:
        """The file that has it."""
        return Path(inspect.getfile(registry.get(self.kind).implementation)).resolve()

    def lines(self) -> int:
        """All lines of that file, its docstrings and empty ones too."""
        return len(self.file().read_text(encoding="utf-8").splitlines())

    def known_by(self, files: Iterable[Path]) -> list[str]:
        """Other files of the package that import the kind's module, or hold its name as a text."""
        own, module = self.file(), registry.get(self.kind).source
        others = (file for file in files if file.resolve() != own)
        return [str(file) for file in others if _knows(file, module, self.kind)]

    def reaches(self, paper: str) -> list[str]:
        """The components or losses of a paper that have it by the one override.

        Raises:
            UserError: the paper cannot have it.
        """
        names, loss = PAPERS[paper]
        return _having(Blueprint.load(*names, overrides=[self.override.format(loss=loss)]).check(), self.kind)


TECHNIQUES = (
    Technique("SwiGLU", "swiglu", "components.*.ffn=swiglu"),
    Technique("RMSNorm", "rms_norm", "components.*.norm=rms_norm"),
    Technique("rotary positions", "rotary", "components.*.positions=rotary"),
    Technique("mixture of experts", "moe", "components.*.ffn=moe"),
    Technique("SigLIP's loss", "sigmoid", "losses.{loss}={{use: sigmoid, scores: [i2t, t2i]}}"),
    Technique("LoRA", "lora", '+adapters.lora={{use: lora, match: "**.self_attention"}}'),
)


def _knows(file: Path, module: str, kind: str) -> bool:
    text = file.read_text(encoding="utf-8")
    if kind not in text and module.rpartition(".")[2] not in text:
        return False  # most files, which need not be parsed
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == module:
            return True
        if isinstance(node, ast.Import) and any(alias.name == module for alias in node.names):
            return True
        if isinstance(node, ast.Constant) and node.value == kind:
            return True
    return False


def _having(checked: CheckedBlueprint, kind: str) -> list[str]:
    parts = {
        name: [value.use for value in dict(component.config).values() if hasattr(value, "use")]
        for name, component in checked.components.items()
        if component.config is not None
    }
    names = [name for name, uses in parts.items() if kind in uses]
    names += [name for name, loss in checked.losses.items() if loss.kind.name == kind]
    return names + [name for name, adapter in checked.adapters.items() if adapter.kind.name == kind]


def main() -> None:
    """Print the table."""
    files = sources()
    print(f"{'technique':20} {'file':34} lines  known by  reached: " + ", ".join(PAPERS))
    for technique in TECHNIQUES:
        reached = " ".join(str(len(technique.reaches(paper))) for paper in PAPERS)
        file, known = technique.file().relative_to(ROOT), len(technique.known_by(files))
        print(f"{technique.title:20} {file!s:34} {technique.lines():5}  {known:8}  {reached}")
        print(f"{'':20} {technique.override.replace('{{', '{').replace('}}', '}')}")


if __name__ == "__main__":
    main()
