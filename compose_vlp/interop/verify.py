"""The proof that a port gives the original's numbers: import its weights, run its recorded step, compare everything."""

from __future__ import annotations

from pathlib import Path

import torch

from compose_vlp import registry
from compose_vlp.blueprint.resolve import resolve
from compose_vlp.compiler.model import build
from compose_vlp.graph.check import check
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop.comparison import Comparison, Tolerances, compare
from compose_vlp.interop.format import format_named
from compose_vlp.interop.oracle import read_oracle
from compose_vlp.interop.weights import load_weights


def verify(
    folder: str | Path,
    format_name: str,
    *,
    device: torch.device | str = "cpu",
    tolerances: Tolerances | None = None,
) -> Comparison:
    """Run the step that a folder records, and compare all that the folder holds.

    The blueprint's overrides come from the folder's `config.json`; a model of any size will do. What the folder holds
    and the replay does not give is a failure, and so is an input that the replay does not use.

    Raises:
        UserError: no such format; a file is missing or broken; weights that do not fit the blueprint.
    """
    form = format_named(format_name)
    oracle = read_oracle(folder, form.losses)
    blueprint = checked(*form.settings(oracle.config))
    model = build(blueprint)
    load_weights(model, form.import_state(oracle.weights))
    replayed = form.replay(blueprint, model.to(device), oracle)
    unused = tuple(sorted(oracle.inputs.keys() - replayed.inputs))
    return compare(replayed.outcome, oracle.wanted, unused=unused, tolerances=tolerances)


def checked(name: str, overrides: list[str]) -> CheckedBlueprint:
    """A blueprint with overrides, without mistakes.

    Raises:
        BlueprintError: with all of them.
    """
    found = resolve([name], overrides, fields_of=registry.fields_of)
    if not found.sound:
        found.raise_problems()
    return check(found.document, registry, found.problems)
