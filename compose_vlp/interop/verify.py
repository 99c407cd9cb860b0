"""The proof that a port gives the original's numbers: import its weights, run its recorded step, compare everything."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from compose_vlp import registry
from compose_vlp.blueprint.resolve import resolve
from compose_vlp.compiler.model import build
from compose_vlp.errors import UserError
from compose_vlp.graph.checking.check import check
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop.comparison import Comparison, Tolerances, compare
from compose_vlp.interop.format import Filled, format_named
from compose_vlp.interop.oracle import read_oracle
from compose_vlp.interop.weights import load_weights


def verify(
    folder: str | Path,
    format_name: str,
    *,
    device: torch.device | str = "cpu",
    tolerances: Tolerances | None = None,
    without: Collection[str] = (),
) -> Comparison:
    """Run the step that a folder records, and compare all that the folder holds.

    The blueprint's overrides come from the folder's `config.json`; a model of any size will do. What the folder holds
    and the replay does not give is a failure, and so is an input that the replay does not use. `without` names
    passes of the compiler that are left out.

    Raises:
        UserError: no such format; a file is missing or broken; weights that do not fit the blueprint.
    """
    form = format_named(format_name)
    oracle = read_oracle(folder, form.losses)
    blueprint = checked(*form.settings(oracle))
    model = build(blueprint)
    tokenizers = {name: part for name, part in blueprint.components.items() if part.kind.category == "tokenizer"}
    model.tokenizers = {name: part.kind.implementation(part.config) for name, part in tokenizers.items()}
    own = model.components.state_dict()
    imported = form.import_state(oracle.weights, Filled(own, {}, own))
    if imported.left:
        raise UserError(f"{folder} has tensors that no class of {form.name} has: {', '.join(imported.left)}")
    load_weights(model, imported.tensors, spare=blueprint.unread_components)
    outcome = form.replay(blueprint, model.to(device), oracle, without)
    unused = tuple(sorted(oracle.inputs.unread))
    return compare(outcome, oracle.expected, unused=unused, tolerances=tolerances)


def checked(names: str | Sequence[str], overrides: list[str]) -> CheckedBlueprint:
    """A blueprint (or several, as the command line takes them) with overrides, without mistakes.

    Raises:
        BlueprintError: with all of them.
    """
    resolved = resolve([names] if isinstance(names, str) else list(names), overrides, fields_of=registry.fields_of)
    if not resolved.sound:
        resolved.raise_problems()
    return check(resolved.document, registry, resolved.problems)
