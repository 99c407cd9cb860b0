"""A finished run, loaded: `compose_vlp.load(RUN).caption("cat.jpg")`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compose_vlp.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from compose_vlp.graph.graph import CheckedBlueprint
    from compose_vlp.runtime.inference.outputs import Asker
    from compose_vlp.runtime.state.run_folder import RunFolder


@dataclass(frozen=True)
class Output:
    """One output of a trained model, called with pictures (paths, PIL images, uint8 arrays) and texts.

    Inputs are given by name, or in the order in which the output reads them; one value or a list of them. The answer
    to one is one, to a list a list (of texts) or a tensor with a row for each (of `relevance` a map `[side, side]`).
    """

    asker: Asker
    name: str

    def __call__(self, *values: Any, seed: int = 0, **named: Any) -> Any:
        entry = self.asker.blueprint.outputs[self.name]
        reads = self.asker.inputs_read(self.name)
        settings = {key: value for key, value in named.items() if key not in self.asker.blueprint.inputs}
        inputs = {key: value for key, value in named.items() if key in self.asker.blueprint.inputs}
        if len(values) > len(reads):
            raise UserError(f"output {self.name!r} reads {', '.join(reads)}; {len(values)} values were given")
        inputs = {**dict(zip(reads, values, strict=False)), **inputs}
        single = not any(isinstance(value, list | tuple) for value in inputs.values())
        lists = {key: list(value) if isinstance(value, list | tuple) else [value] for key, value in inputs.items()}
        lengths = {len(value) for value in lists.values()}
        if len(lengths) > 1:
            raise UserError(f"lists of different lengths: {', '.join(f'{k} {len(v)}' for k, v in lists.items())}")
        if entry.form == "generate":
            answers: Sequence[Any] | Tensor = self.asker.texts(self.name, lists, seed=seed, **settings)
        elif settings:
            raise UserError(
                f"output {self.name!r} does not read {', '.join(settings)}", hints=[f"it reads {', '.join(reads)}"]
            )
        elif entry.form == "relevance":
            from compose_vlp.runtime.inference.relevance import Explainer

            answers = Explainer(self.asker, self.name).maps(lists).whole
        else:
            answers = self.asker.value(self.name, lists)
        return answers[0] if single else answers


class Run:
    """A trained model with its blueprint and tokenizers; its outputs are attributes."""

    def __init__(self, folder: RunFolder, asker: Asker) -> None:
        self.folder = folder
        self.asker = asker

    @property
    def blueprint(self) -> CheckedBlueprint:
        return self.asker.blueprint

    @property
    def outputs(self) -> dict[str, Output]:
        return {name: Output(self.asker, name) for name in self.blueprint.outputs}

    def __getattr__(self, name: str) -> Output:
        if name.startswith("_"):
            raise AttributeError(name)
        outputs = self.outputs
        if name not in outputs:
            hints = did_you_mean(name, outputs) or [f"outputs: {', '.join(outputs)}"]
            raise AttributeError(f"{self.blueprint.name} has no output {name!r}; {'; '.join(hints)}")
        return outputs[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.outputs]


def load(
    run: str | Path,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    plugins: Sequence[str | Path] = (),
) -> Run:
    """The trained model of a run: a run folder or an MLflow run id.

    `overrides` may change what needs no other weights: `data.test.path=new.jsonl`, `outputs.caption.beams=3`.

    Raises:
        UserError: no such run, it has no checkpoint yet, or its weights do not fit the changed blueprint.
    """
    from compose_vlp.api import Blueprint
    from compose_vlp.compiler.model import build, fingerprint
    from compose_vlp.runtime.device import choose_device
    from compose_vlp.runtime.inference.outputs import Asker
    from compose_vlp.runtime.sources import open_tokenizers
    from compose_vlp.runtime.state import checkpoint
    from compose_vlp.runtime.state.find_run import find_run
    from compose_vlp.runtime.training.saving import blueprint_of

    folder = find_run(str(run))
    checked = Blueprint.load(folder.path / "blueprint.yaml", overrides=overrides, plugins=plugins).check()
    newest = checkpoint.latest(folder.checkpoints)
    if newest is None:
        raise UserError(f"run {folder.path} has no checkpoint yet")
    checked = blueprint_of(newest, checked)
    where = choose_device(device)
    model = build(checked, where)
    saved = checkpoint.load(newest, only=("model",), blueprint=fingerprint(checked), device=str(where))
    model.load_state_dict(saved["model"])
    tokenizers = open_tokenizers(checked, folder.path / "tokenizers")
    return Run(folder, Asker(checked, model.eval(), tokenizers, where))
