"""A finished run, loaded: `compose_vlp.load(RUN).caption("cat.jpg")`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.readable import several, summary

if TYPE_CHECKING:
    from torch import Tensor

    from compose_vlp.blueprint.arguments import Overrides
    from compose_vlp.compiler.model import Model
    from compose_vlp.graph.graph import CheckedBlueprint
    from compose_vlp.runtime.inference.asked import Asked
    from compose_vlp.runtime.inference.outputs import Asker
    from compose_vlp.runtime.state.run_folder import RunFolder
    from compose_vlp.runtime.state.weights import Weights

log = logging.getLogger(__name__)

OUTPUT_FACTS = ("output", "form", "asked with")


@dataclass(frozen=True)
class Output:
    """One output of a trained model, called with pictures (paths, bytes of a file, PIL images, arrays) and texts.

    What a record would hold is given by the record's fields, or in the order in which the output reads them; one value
    or a list of them. The answer to one is one, to a list a list (of texts) or a tensor with a row for each (of
    `relevance` a map `[side, side]`). Where an output reads a table, a list of texts under that input's name stands in
    its place.

    >>> load("runs/first").outputs["text_embedding"]
    <Output text_embedding: value, (caption)>
    >>> load("runs/first").text_embedding(["a red circle", "a blue square"]).shape
    torch.Size([2, 128])
    """

    asker: Asker
    name: str

    def __repr__(self) -> str:
        return summary("Output", self.name, *self.facts())

    def _repr_html_(self) -> str:
        """Show in a notebook what it is asked with."""
        from compose_vlp.pages import table

        return table(OUTPUT_FACTS, [(self.name, *self.facts())])

    def facts(self) -> tuple[str, str]:
        """Tell its form, and what of a record it is asked with."""
        return self.asker.blueprint.outputs[self.name].form, f"({', '.join(self.asker.fields_read(self.name))})"

    def __call__(self, *values: Any, seed: int = 0, **named: Any) -> Any:
        from compose_vlp.runtime.inference.asked import read_arguments

        asked = read_arguments(self.asker.blueprint, self.name, values, named)
        answers = self._answers(asked, seed)
        if isinstance(answers, list) and not asked.fields:
            return answers[0]  # of nothing that differs from record to record, one text is written
        return answers[0] if asked.single else answers

    def _answers(self, asked: Asked, seed: int) -> list[str] | Tensor:
        form = self.asker.blueprint.outputs[self.name].form
        if form == "generate":
            return self.asker.texts(self.name, asked.fields, asked.tables, seed=seed, **asked.settings)
        if form == "value":
            return self.asker.value(self.name, asked.fields, asked.tables)
        batch = self.asker.batch(self.name, asked.fields)
        if form == "rank":
            from compose_vlp.runtime.inference.rank import Ranker

            ranker = Ranker(self.asker, self.name, asked.tables)
            return [] if batch is None else ranker.best(batch)
        from compose_vlp.runtime.inference.relevance import Explainer, no_maps

        explainer = Explainer(self.asker, self.name)
        return no_maps() if batch is None else explainer.maps_of_batch(batch, asked.tables).whole


class Run:
    """A trained model with its blueprint and tokenizers; its outputs are attributes.

    `weights` says which checkpoint was loaded, and how the run stands.

    >>> run = load("runs/first")
    >>> list(run.outputs)
    ['image_embedding', 'text_embedding', 'caption']
    >>> run.weights.step, run.weights.status
    (1, 'finished')
    """

    def __init__(self, folder: RunFolder, asker: Asker, weights: Weights) -> None:
        self.folder = folder
        self.asker = asker
        self.weights = weights

    @property
    def blueprint(self) -> CheckedBlueprint:
        return self.asker.blueprint

    def __repr__(self) -> str:
        return summary("Run", self.blueprint.name, str(self.weights), several(len(self.outputs), "output"))

    def _repr_html_(self) -> str:
        """Show in a notebook the graph, the checkpoint, and what can be asked."""
        from compose_vlp.pages import join, table, tag
        from compose_vlp.picture import embedded

        outputs = [(name, *output.facts()) for name, output in self.outputs.items()]
        where = tag("p", tag("b", self.blueprint.name), f": {self.weights}, in {self.folder.path}")
        return join([embedded(self.blueprint), where, table(OUTPUT_FACTS, outputs)])

    @property
    def outputs(self) -> dict[str, Output]:
        return {name: Output(self.asker, name) for name in self.blueprint.outputs}

    @property
    def module(self) -> Model:
        """Give the `nn.Module` with all weights, to be trained further, exported or looked into.

        Programs run over it: `run.module(program.run, batch)`.

        >>> sum(weights.numel() for weights in load("runs/first").module.parameters())
        1909025
        """
        return self.asker.model

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
    overrides: Overrides = (),
    device: str | None = None,
    plugins: Sequence[str | Path] = (),
    note: Callable[[str], None] = log.warning,
) -> Run:
    """Load the trained model of a run: a run folder or an MLflow run id, with the plugins that the run carries.

    `plugins` take the place of those of the same file name. `note` is told where the originals have changed.
    `overrides` may change what needs no other weights: `data.test.path=new.jsonl`, `outputs.caption.beams=3`.

    >>> load("runs/first", overrides={"outputs.caption.beams": 2}).caption
    <Output caption: generate, (image)>

    Raises:
        UserError: no such run, it has no checkpoint yet, or its weights do not fit the changed blueprint.
    """
    from compose_vlp.compiler.model import build, fingerprint
    from compose_vlp.loading import LoadedBlueprint
    from compose_vlp.runtime.device import choose_device
    from compose_vlp.runtime.inference.outputs import Asker
    from compose_vlp.runtime.sources import open_tokenizers
    from compose_vlp.runtime.state import checkpoint
    from compose_vlp.runtime.state.carried import carried
    from compose_vlp.runtime.state.find_run import find_run
    from compose_vlp.runtime.state.tables import with_kept_tables
    from compose_vlp.runtime.state.weights import weights_of
    from compose_vlp.runtime.training.saving import blueprint_of

    folder = find_run(str(run))
    own = carried(folder.path, plugins, note)
    checked = LoadedBlueprint.load(folder.path / "blueprint.yaml", overrides=overrides, plugins=own).check()
    newest = checkpoint.latest(folder.checkpoints)
    if newest is None:
        raise UserError(f"run {folder.path} has no checkpoint yet")
    checked = with_kept_tables(blueprint_of(newest, checked), folder.path)
    where = choose_device(device)
    model = build(checked, where)
    saved = checkpoint.load(newest, only=("model",), blueprint=fingerprint(checked), device=str(where))
    model.load_state_dict(saved["model"])
    tokenizers = open_tokenizers(checked, folder.path / "tokenizers")
    return Run(folder, Asker(checked, model.eval(), tokenizers, where), weights_of(newest, folder))
