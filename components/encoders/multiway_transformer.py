"""One transformer for every modality, with experts of each."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.attention import Linear, Scope, SelfAttention, branch_std, heads_divide_width
from compose_vlp.components.layers.multiway import (
    BiasTable,
    Experts,
    MultiwayAttention,
    MultiwayLayer,
    RelativeBias,
    RelativeSettings,
    choose,
    joined,
    runs_of,
)
from compose_vlp.components.layers.transformer import Residual, TowerSettings
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.graph.kinds import Clash
from compose_vlp.graph.types import Flow, SequenceType, merge_reads
from compose_vlp.graph.types import Part as PartType
from compose_vlp.registry import ALL, component, inferred
from compose_vlp.slots import Part as SlotPart
from compose_vlp.slots import slot
from compose_vlp.values import Part, Sequence
from compose_vlp.values.cache import Cache
from compose_vlp.values.chosen import Reads, Run, choose_positions

RESERVED = frozenset(dir(nn.ModuleDict()))
"""Names that no expert can have, since modules by name have them already (`half`, `items`)."""


@component(
    "multiway_transformer", rows="independent", state="none", draws="noise", noise=("drop_path",), last_layer=True
)
class MultiwayTransformer(nn.Module):
    """Pre-norm layers in which all positions attend to each other, and each modality has an FFN and norm of its own.

    VLMo's (Bao et al. 2022, 2.2) and, with `attention_experts` and `sub_norm`, BEiT-3's as released (Wang et al. 2023).
    A part goes to the expert of its name (or to `any`); the port `expert` sends all positions to one. A tower may be
    cut in two, where upper layers have experts that lower ones have not: `layers_before` and `layers_after` say where
    it stands in the whole.
    """

    class Config(TowerSettings):
        heads: int = Field(12, gt=0, description="attention heads; they divide the width")
        experts: tuple[str, ...] = Field(
            ("vision", "language"), min_length=1, description="modalities, as parts are called; `any` takes all others"
        )
        attention_experts: bool = Field(
            False, description="has each modality maps and norms of its own in attention, and a last norm?"
        )
        sub_norm: bool = Field(False, description="a norm before the last map of attention and of every FFN (Magneto)?")
        layer_scale: float | None = Field(
            None, gt=0, description="factor of every branch's features at the start, learnt; none if left out"
        )
        key_bias: bool = Field(True, description="have the maps to keys a bias? Those to queries and values have one")
        drop_path: float = Field(
            0.0, ge=0, lt=1, description="probability that a row skips the last layer's branches; lower ones less"
        )
        skips: Literal["row", "part"] = Field(
            "row", description="what `drop_path` skips of an FFN: a row as a whole (BEiT-3), or each part apart (VLMo)"
        )
        positions: SlotPart = slot(
            "positions", "none", "what tells positions apart beside what comes in; `relative`: a bias of attention"
        )
        final_norm: bool = Field(True, description="a norm after the last layer?")
        norm_eps: float = Field(1e-6, gt=0, description="added to the variance in every norm")
        layers_before: int = Field(0, ge=0, description="layers of the whole tower below this one")
        layers_after: int = Field(0, ge=0, description="layers of the whole tower above this one")
        init_std: float | None = Field(
            None, gt=0, description="of all maps' weights; by their widths and the whole depth if left out"
        )
        width: int = inferred(description="features of a position")
        grid: int | None = inferred("x.grid", "patches a side of the picture that comes in")
        length: int | None = inferred("x.length", "positions of the longest text that comes in")

        @property
        def frame(self) -> int | None:
            """The longest text that a relative table can take."""
            settings = self.positions.settings
            return (settings.frame if isinstance(settings, RelativeSettings) else None) or self.length

    parts: Mapping[str, str] = {
        "self_attention": "layers.*.self_attention",
        "experts": "layers.*.experts",
        "final_norm": "norm",
        "relative_bias": "relative_bias.table",
    }

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        self.relative_bias = RelativeBias(c.grid or 1, c.frame or 2, c.heads, c.depth) if c.biases_scores else None
        self.layers = nn.ModuleList(_layer(c, number) for number in range(c.depth))
        self.norm = _final_norm(c)
        if c.init_std is not None:
            for module in self.modules():
                if isinstance(module, Linear):
                    nn.init.normal_(module.weight, std=c.init_std)

    def forward(
        self,
        x: Annotated[Sequence, "rows tokens width", ALL],
        expert: str | None = None,
        attention: Literal["all", "prefix"] = "all",
        *,
        cache: Cache | None = None,
        read: Reads | None = None,
    ) -> Annotated[Sequence, "rows tokens width"]:
        """`[batch, tokens, width]` to `[batch, tokens, width]`.

        With `attention="prefix"` a text's words attend to earlier ones and to all other parts, which do not attend to
        words; with `cache`, x holds the words that come next.
        """
        runs = runs_of(x.parts, self.config.experts, expert)
        valid = x.valid if cache is None else cache.valid(x.valid, x.features.shape[1])
        scope = Scope(valid, runs=runs, biases=self._biases(x, attention, cache), cache=cache)
        hidden = x.features
        chosen = choose_positions(read, x.parts, hidden, runs) if len(self.layers) else None
        for number, layer in enumerate(self.layers):
            if chosen is not None and number == len(self.layers) - 1:
                hidden = chosen.spread(layer(hidden, scope.at(number), chosen))
            else:
                hidden = layer(hidden, scope.at(number))
        if cache is not None:
            cache.advance(hidden.shape[1])
        return x.with_features(self._normed(hidden, runs))

    def _biases(self, x: Sequence, attention: str, cache: Cache | None) -> Tensor | None:
        """`[layers, heads, n, m]` to be added to scores, or `[1, 1, n, m]` that says what may be seen."""
        seen = None if attention == "all" else _prefix(x.parts, x.features.device)
        if cache is not None and cache.length:  # words that come next stand one behind the other
            seen = _behind(x.features.shape[1], cache.length, x.features.device)
        if self.relative_bias is None:
            return None if seen is None else seen[None, None]
        biases: Tensor = self.relative_bias(x.parts if cache is None else _grown(x, cache))
        if cache is not None and cache.length:
            biases = biases[:, :, -x.features.shape[1] :]
        return biases if seen is None else biases.masked_fill(~seen, -torch.inf)

    def _normed(self, hidden: Tensor, runs: tuple[Run, ...]) -> Tensor:
        if self.norm is None:
            return hidden
        if isinstance(self.norm, Experts):
            return joined(self.norm(hidden, runs))
        normed: Tensor = self.norm(hidden)
        return normed

    @staticmethod
    def tables(config: Config) -> Mapping[str, BiasTable]:
        return {"relative_bias.table": BiasTable(config.frame or 2)} if config.biases_scores else {}

    @staticmethod
    def output(config: Config, ports: Mapping[str, Any]) -> SequenceType:
        x: SequenceType = ports["x"]
        _check_experts(config, x, ports.get("expert"))
        if config.biases_scores:
            _check_relative(x, config.grid)
        if ports.get("attention", "all") == "all":
            everything = merge_reads(*(part.reads for part in x.parts), at_least=Flow.ALL)
            return replace(x, reads=everything, parts=tuple(replace(part, reads=everything) for part in x.parts))
        words = [part for part in x.parts if part.text is not None]
        if len(words) != 1 or x.parts[-1].text is None:
            hints = ("`join(vision=..., language=...)` puts the text last", '`attention="all"`')
            raise UserError('`attention="prefix"` needs one text, as the last part of what comes in', hints=hints)
        before = merge_reads(*(part.reads for part in x.parts if part.text is None), at_least=Flow.ALL)
        parts = tuple(_prefixed(part, before) for part in x.parts)
        return replace(x, reads=merge_reads(*(part.reads for part in parts)), parts=parts)

    @staticmethod
    def check(config: Config) -> tuple[Clash, ...]:
        clashes = [*heads_divide_width(config), *_misnamed(config.experts)]
        if config.has_table:
            hints = ("positions: none", "embeddings have tables: `patch_embedding`, `word_embedding`")
            clashes.append(Clash("a multiway tower has no table of positions", ("positions",), hints))
        if config.biases_scores and config.frame and config.length and config.length > config.frame:
            message = f"a text of {config.length} tokens is longer than the frame {config.frame} of the relative table"
            clashes.append(Clash(message, ("positions",), (f"positions: {{use: relative, frame: {config.length}}}",)))
        return tuple(clashes)


def _prefix(parts: tuple[Part, ...], device: torch.device) -> Tensor:
    """`[n, n]`: words see earlier words and all other parts, which see each other."""
    words = torch.cat([torch.full((part.length,), part.text is not None, device=device) for part in parts])
    earlier = torch.ones(len(words), len(words), dtype=torch.bool, device=device).tril()
    return ~words[None] | (words[:, None] & earlier)


def _grown(x: Sequence, cache: Cache) -> tuple[Part, ...]:
    """The parts of all positions so far, of which those of x come last: the text of the first call has grown."""
    if not cache.length:
        cache.parts = x.parts
    *before, text = cache.parts
    return *before, replace(text, length=cache.length + x.features.shape[1] - text.start)


def _behind(new: int, before: int, device: torch.device) -> Tensor | None:
    """`[new, before + new]`: each of these words sees itself and all before it; None where it is one."""
    if new == 1:
        return None
    return torch.ones(new, before + new, dtype=torch.bool, device=device).tril(before)


def _prefixed(part: PartType, before: Mapping[str, Flow]) -> PartType:
    if part.text is None:
        return replace(part, reads=before)
    return replace(part, cls="none", reads=merge_reads(merge_reads(part.reads, at_least=Flow.PAST), before))


def _layer(c: MultiwayTransformer.Config, number: int) -> MultiwayLayer:
    whole = c.layers_before + c.depth + c.layers_after
    std = branch_std(c.width, max(whole, 1))
    rate = c.drop_path * (c.layers_before + number) / max(whole - 1, 1)

    def attention() -> SelfAttention:
        sub_norm = c.make_norm(c.width) if c.sub_norm else None
        positions = c.make_positions(c.width)
        return SelfAttention(c.width, c.heads, positions=positions, key_bias=c.key_bias, sub_norm=sub_norm, std=std)

    if c.attention_experts:
        norms = {name: c.make_norm(c.width) for name in c.experts}
        branch: nn.Module = MultiwayAttention(norms, {name: attention() for name in c.experts})
        norm: nn.Module = nn.Identity()
    else:
        branch, norm = attention(), c.make_norm(c.width)
    return MultiwayLayer(
        Residual(branch, norm, drop_path=rate, scale=_scale(c)),
        {name: _Expert(c, std) for name in c.experts},
        scale=_scale(c),
        drop_path=rate,
        drop_by_part=c.skips == "part",
    )


class _Expert(nn.Module):
    """A modality's norm and FFN, `[batch, n, width]` to `[batch, n, width]`."""

    def __init__(self, c: MultiwayTransformer.Config, std: float) -> None:
        super().__init__()
        self.norm = c.make_norm(c.width)
        self.ffn = c.make_ffn(c.width, std, sub_norm=c.sub_norm)

    def forward(self, x: Tensor) -> Tensor:
        mapped: Tensor = self.ffn(self.norm(x))
        return mapped


def _misnamed(experts: tuple[str, ...]) -> Iterator[Clash]:
    """Experts of one name, and names that no module can have: parameters lie below them."""
    for name in sorted({name for name in experts if experts.count(name) > 1}):
        yield Clash(f"`{name}` is twice among the experts", ("experts",), ("each modality has one",))
    for name in experts:
        if not name.isidentifier() or name in RESERVED:
            why = "torch keeps this name for itself" if name in RESERVED else "a name has letters, digits and `_`"
            yield Clash(f"no expert can be called `{name}`: {why}", ("experts",), ("experts are called as parts are",))


def _scale(c: MultiwayTransformer.Config) -> nn.Parameter | None:
    return None if c.layer_scale is None else nn.Parameter(torch.full((c.width,), c.layer_scale))


def _final_norm(c: MultiwayTransformer.Config) -> nn.Module | None:
    if not c.final_norm:
        return None
    return Experts({name: c.make_norm(c.width) for name in c.experts}) if c.attention_experts else c.make_norm(c.width)


def _check_experts(config: MultiwayTransformer.Config, x: SequenceType, expert: Any) -> None:
    """Raise where a part, or the expert that is asked for, is none of the tower's."""
    asked = getattr(expert, "value", expert)
    known = ", ".join(config.experts)
    if isinstance(asked, str):
        if choose(asked, config.experts) is None:
            raise UserError(
                f"no expert is called `{asked}`", hints=(*did_you_mean(asked, config.experts), f"experts: {known}")
            )
        return
    for part in x.parts:
        if choose(part.name, config.experts) is None:
            hints = (
                f"experts: {known}",
                f'`expert="{_nearest(part.name, config.experts)}"` sends all positions to one',
                "`any` among the experts takes what has none of its own",
            )
            raise UserError(f"no expert takes the part `{part.name}`", hints=hints)


def _nearest(name: str, known: tuple[str, ...]) -> str:
    """Return the expert whose name is most like `name`, or the first."""
    near = did_you_mean(name, known)
    return next((expert for expert in known if near and expert in near[0]), known[0])


def _check_relative(x: SequenceType, grid: int | None) -> None:
    """Raise where a part's positions are not those of the tower's one table, `grid` patches a side."""
    for part in x.parts:
        if part.grid is not None and part.grid != (grid, grid):
            rows, columns = part.grid
            table = "square pictures of one grid" if grid is None else f"one grid, here of {grid} x {grid} patches"
            message = f"`positions: relative` knows {table}; `{part.name}` has {rows} x {columns}"
            raise UserError(message, hints=("`positions: none` takes pictures of any grids", "or equal patches a side"))
        if part.text is None and part.grid is None:
            hints = ("give the tower what an embedding of a picture or a text gives", "or `positions: none`")
            raise UserError(
                f"`positions: relative` knows pictures on a grid and texts; `{part.name}` is neither", hints=hints
            )
        if part.cls != "first":
            text = 'a text has none any more as `.tokens`, or behind `attention="prefix"`'
            hints = ("`cls: first` where it is embedded" if part.text is None else text, "or `positions: none`")
            raise UserError(f"`positions: relative` needs a CLS before the positions of `{part.name}`", hints=hints)
