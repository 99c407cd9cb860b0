"""BEiT's checkpoints (microsoft/unilm, beit), as VLMo begins from them: its picture's experts and its attention."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from compose_vlp.components.layers.multiway import BiasTable
from compose_vlp.errors import UserError
from compose_vlp.interop import bert
from compose_vlp.interop.format import Filled, Imported
from compose_vlp.interop.rules import Rule, named, same, to_ours

STACKS = ("lower", "upper")
"""VLMo's two stacks, from the bottom."""
TABLE = "relative_position_bias_table"
INDEX = "relative_position_index"


def import_state(state: Mapping[str, Tensor], filled: Filled) -> Imported:
    """BEiT's layers for VLMo's stacks, as VLMo's code takes them over: its FFNs are the picture's experts.

    Rows of the bias table that BEiT has not (of words, and across) stay as the model has them. Files of BEiT that was
    fine-tuned have no final norm; their `fc_norm` and `head`, and the heads of masked codes, are left over.

    Raises:
        UserError: it is no file of BEiT; it has more or fewer layers than both stacks, or one stack alone is meant.
    """
    if not is_beit(state):
        raise UserError("no state dict of BEiT: it has no `cls_token` and `blocks` with `q_bias`")
    depths = {stack: bert.depth(filled.tensors, f"{stack}.layers") for stack in STACKS}
    _check_stacks(state, depths, filled.meant)
    rules = list(_rules(state, depths))
    known = {name for rule in rules for name in rule.theirs}
    tensors = to_ours(rules, {name: tensor for name, tensor in state.items() if name in known})
    tables = _tables(state, depths, filled)
    left = [n for n in state if n not in known and not n.endswith((TABLE, INDEX))]
    return Imported(tensors | tables, tuple(left))


def is_beit(names: Collection[str]) -> bool:
    """Does a file with these names hold a BEiT?"""
    return "cls_token" in names and "blocks.0.attn.q_bias" in names and "blocks.0.norm2.weight" in names


def check_whole(names: Collection[str], component: str) -> None:
    """Raise where a file of BEiT is to fill one stack, whose layers it has not by themselves.

    Raises:
        UserError: it is one.
    """
    if is_beit(names):
        raise UserError(
            f"`start`: a file of BEiT fills both of VLMo's stacks, not `{component}` alone", hints=[WAY_OUT]
        )


WAY_OUT = "leave `to` out: `{from: FILE, as: beit}`; what BEiT has not is listed last: `{new: [...]}`"


def _check_stacks(state: Mapping[str, Tensor], depths: Mapping[str, int], meant: Collection[str]) -> None:
    layers = bert.depth(state, "blocks")
    if layers != sum(depths.values()):
        words = " and ".join(f"`{stack}` {depth}" for stack, depth in depths.items())
        raise UserError(
            f"`start`: BEiT has {layers} layers, and the model {sum(depths.values())}: {words}",
            hints=["a file of BEiT fills VLMo's `patches_of`, `lower` and `upper`"],
        )
    asked = [stack for stack in STACKS if depths[stack] and any(name.startswith(f"{stack}.") for name in meant)]
    if len(asked) == 1 < sum(map(bool, depths.values())):
        check_whole(state, asked[0])


def _rules(state: Mapping[str, Tensor], depths: Mapping[str, int]) -> Iterator[Rule]:
    yield same("cls_token", "patches_of.cls", "token")
    yield from named("patch_embed.proj", "patches_of.stem.projection")
    if "pos_embed" in state:
        yield same("pos_embed", "patches_of.positions", "batched")
    homes = [f"{stack}.layers.{i}" for stack, depth in depths.items() for i in range(depth)]
    for number, ours in enumerate(homes):
        block, attention = f"blocks.{number}", f"{ours}.self_attention.branch"
        yield from named(f"{block}.norm1", f"{ours}.self_attention.norm")
        yield same(f"{block}.attn.qkv.weight", f"{attention}.qkv.weight")
        for name in ("q_bias", "v_bias"):
            yield same(f"{block}.attn.{name}", f"{attention}.{name}")
        yield from named(f"{block}.attn.proj", f"{attention}.out")
        if f"{block}.gamma_1" in state:
            yield same(f"{block}.gamma_1", f"{ours}.self_attention.scale")
            yield same(f"{block}.gamma_2", f"{ours}.ffn_scale")
        yield from named(f"{block}.norm2", f"{ours}.experts.vision.norm")
        for layer in ("fc1", "fc2"):
            yield from named(f"{block}.mlp.{layer}", f"{ours}.experts.vision.ffn.{layer}")
    if "norm.weight" in state:
        yield from named("norm", "upper.norm")


def _tables(state: Mapping[str, Tensor], depths: Mapping[str, int], filled: Filled) -> dict[str, Tensor]:
    """Both stacks' tables of biases; one that BEiT's layers share (`rel_pos_bias`) is every layer's."""
    shared = state.get(f"rel_pos_bias.{TABLE}")
    tables, first = {}, 0
    for stack, depth in depths.items():
        own = [state.get(f"blocks.{i}.attn.{TABLE}", shared) for i in range(first, first + depth)]
        first += depth
        columns = [table for table in own if table is not None]
        shapes = {tuple(table.shape) for table in columns}
        if len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
            raise UserError(f"`start`: BEiT's tables of biases are {', '.join(map(str, map(list, sorted(shapes))))}")
        name = f"{stack}.relative_bias.table"
        kind = filled.tables.get(name)
        if columns and isinstance(kind, BiasTable):
            tables[name] = kind.with_pictures(torch.cat(columns, 1), filled.tensors[name].detach())
        elif columns or kind is not None:
            has, lacks = ("BEiT", f"`{stack}`") if columns else (f"`{stack}`", "BEiT")
            hints = [f"`components.{stack}.positions: {'relative' if columns else 'none'}`"]
            raise UserError(f"`start`: {has} has biases of attention, and {lacks} none", hints=hints)
    return tables
