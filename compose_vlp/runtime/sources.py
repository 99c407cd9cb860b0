"""Open what a blueprint declares: the data sources of its stages, and its tokenizers."""

from __future__ import annotations

import os
from collections.abc import Mapping as Dict
from collections.abc import Set
from pathlib import Path
from typing import Any

from compose_vlp.blueprint.nodes import Entry, Mapping
from compose_vlp.blueprint.sections import DataSource, Evaluate, Stage, field_names
from compose_vlp.blueprint.typed import read_model
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.data.corpus import MOST_RECORDS, prepare_tokenizers
from compose_vlp.data.mixture import Mixture
from compose_vlp.data.renamed import Renamed
from compose_vlp.data.source import Source
from compose_vlp.errors import BlueprintError, UserError, did_you_mean
from compose_vlp.files import folder_aside
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.registry import get, names
from compose_vlp.runtime.stage import CUT, CUT_RECORDS

MAIN = "main"
COMMON = field_names(DataSource)
"""What an entry of `data` may say whatever its kind."""


def stage_sources(blueprint: CheckedBlueprint, stage: str) -> dict[str, Source]:
    """Open the sources of a stage by the name that inputs give them (`main`, where the stage names one for all).

    Raises:
        UserError: the stage has no data, or the data is not there.
    """
    named = blueprint.stages[stage].data
    if not named:
        raise UserError(f"stage {stage!r} has no `data`", hints=["`data: NAME` names an entry of the `data` section"])
    by_input = {MAIN: named} if isinstance(named, str) else dict(named)
    return {name: declared_source(blueprint, source) for name, source in by_input.items()}


def declared_source(blueprint: CheckedBlueprint, name: str) -> Source:
    """Open the source that an entry of the `data` section describes.

    Raises:
        UserError: there is no such entry, its data is not there, or a mixture is a part of itself.
    """
    return _declared(blueprint, name, ())


def _declared(blueprint: CheckedBlueprint, name: str, within: tuple[str, ...]) -> Source:
    """`within` are the mixtures that this entry is a part of."""
    entry = blueprint.document.at("data", name)
    if entry is None:
        known = blueprint.document.data.names
        raise UserError(
            f"no data is called {name!r}", hints=did_you_mean(name, known) or (f"data: {', '.join(known)}",)
        )
    assert isinstance(entry.value, Mapping), "entries of `data` are mappings"
    if name in within:
        raise UserError(f"data {name!r} is a part of itself: {' > '.join((*within, name))}", span=entry.key.span)
    common = _read(blueprint, entry, DataSource, frozenset(entry.value.names) - COMMON)
    if common.mix is not None and common.use is not None:
        raise UserError(f"data {name!r} has `use` and `mix`: it is one source or several", span=entry.key.span)
    if common.mix is not None:
        parts = {part: _declared(blueprint, part, (*within, name)) for part in common.mix}
        source: Source = Mixture(parts, common.mix)
    elif common.use is not None:
        kind = get(common.use)
        source = kind.implementation(_read(blueprint, entry, kind.implementation.Config, COMMON))
    else:
        raise UserError(f"data source {name!r} has no `use`", span=entry.key.span, hints=[", ".join(names("source"))])
    if common.fields:
        source = Renamed(source, common.fields)
    source.skip_limit = common.skip_limit
    return source


def _read(blueprint: CheckedBlueprint, entry: Entry, model: type[Any], skip: Set[str]) -> Any:
    """Read the entry's fields but those of `skip`, by a schema."""
    assert isinstance(entry.value, Mapping)
    config, problems = read_model(entry.value, model, blueprint.document, entry.key.span, skip)
    if config is None or problems:
        raise BlueprintError(problems, blueprint.document.lines())
    return config


def open_tokenizers(blueprint: CheckedBlueprint, stored: Path | None = None) -> dict[str, Tokenizer]:
    """Open the blueprint's tokenizers, restored from a run's folder where that has them."""
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
    most = CUT_RECORDS if os.environ.get(CUT) else MOST_RECORDS
    prepare_tokenizers(tokenizers, blueprint.inputs, sources, most)
    for name, tokenizer in tokenizers.items():
        if not (stored / name).is_dir():
            with folder_aside(stored / name) as folder:
                tokenizer.save(folder)
    return tokenizers


def data_of(stage: Stage) -> str:
    """Name the source that a stage trains on: the one that inputs call `main`, or its first."""
    data = stage.data
    return data if isinstance(data, str) else data.get(MAIN) or next(iter(data.values()))


def last_data(blueprint: CheckedBlueprint) -> str:
    """Name the source that the last stage is trained on.

    Raises:
        UserError: there is no stage.
    """
    if not blueprint.stages:
        raise UserError(f"{blueprint.name} has no stages, so `--data` has to say which data")
    return data_of(list(blueprint.stages.values())[-1])


def data_read(stage: Stage) -> tuple[str, ...]:
    """All sources that a stage trains on or is evaluated on."""
    trained = (stage.data,) if isinstance(stage.data, str) else tuple(stage.data.values())
    evaluated = (stage.evaluate.data,) if isinstance(stage.evaluate, Evaluate) and stage.evaluate.data else ()
    return tuple(dict.fromkeys((*trained, *evaluated)))
