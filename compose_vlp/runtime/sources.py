"""Opening what a blueprint declares: its data sources and its tokenizers."""

from __future__ import annotations

from collections.abc import Mapping as Dict
from pathlib import Path

from compose_vlp.blueprint.document import kind_of
from compose_vlp.blueprint.nodes import Mapping
from compose_vlp.blueprint.typed import read_model
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.data.corpus import prepare_tokenizers
from compose_vlp.data.source import Source
from compose_vlp.errors import BlueprintError, UserError, did_you_mean
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.registry import get, names

MAIN = "main"


def stage_sources(blueprint: CheckedBlueprint, stage: str) -> dict[str, Source]:
    """The sources of a stage by the name that inputs give them (`main`, where the stage names one for all).

    Raises:
        UserError: the stage has no data, or the data is not there.
    """
    named = blueprint.stages[stage].data
    if not named:
        raise UserError(f"stage {stage!r} has no `data`", hints=["`data: NAME` names an entry of the `data` section"])
    by_input = {MAIN: named} if isinstance(named, str) else dict(named)
    return {name: declared_source(blueprint, source) for name, source in by_input.items()}


def declared_source(blueprint: CheckedBlueprint, name: str) -> Source:
    """The source that an entry of the `data` section describes.

    Raises:
        UserError: there is no such entry, or its data is not there.
    """
    entry = blueprint.document.at("data", name)
    if entry is None:
        known = blueprint.document.data.names
        raise UserError(
            f"no data is called {name!r}", hints=did_you_mean(name, known) or (f"data: {', '.join(known)}",)
        )
    assert isinstance(entry.value, Mapping), "entries of `data` are mappings"
    use = kind_of(entry)
    if use is None:
        raise UserError(f"data source {name!r} has no `use`", span=entry.key.span, hints=[", ".join(names("source"))])
    kind = get(use.text)
    config, problems = read_model(entry.value, kind.implementation.Config, blueprint.document, entry.key.span, {"use"})
    if config is None or problems:
        raise BlueprintError(problems, blueprint.document.lines())
    source: Source = kind.implementation(config)
    return source


def open_tokenizers(blueprint: CheckedBlueprint, stored: Path | None = None) -> dict[str, Tokenizer]:
    """The blueprint's tokenizers, restored from a run's folder where that has them."""
    opened: dict[str, Tokenizer] = {}
    for name, part in blueprint.components.items():
        if part.kind.category == "tokenizer":
            opened[name] = part.kind.implementation(part.config)
            if stored is not None and (stored / name).is_dir():
                opened[name].restore(stored / name)
    return opened


def ready_tokenizers(blueprint: CheckedBlueprint, stored: Path, sources: Dict[str, Source]) -> dict[str, Tokenizer]:
    """Tokenizers with a vocabulary: the run's own, else from their files, else learnt from the sources; then stored."""
    tokenizers = open_tokenizers(blueprint, stored)
    prepare_tokenizers(tokenizers, blueprint.inputs, sources)
    for name, tokenizer in tokenizers.items():
        if not (stored / name).is_dir():
            (stored / name).mkdir(parents=True)
            tokenizer.save(stored / name)
    return tokenizers
