"""Causal decoder over words or features, with or without a context to look at."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.attention import ContextKeys, CrossAttention, Scope, branch_std, heads_divide_width
from compose_vlp.components.layers.transformer import Layer, Stack, TowerSettings, build_layer, keys_of_stack, no_biases
from compose_vlp.errors import UserError
from compose_vlp.graph.kinds import Clash, Keys
from compose_vlp.graph.types import Flow, SequenceType, TextType, merge_reads
from compose_vlp.graph.types import Part as PartType
from compose_vlp.registry import ALL, PAST, When, component, inferred
from compose_vlp.values import Part, Sequence, Text
from compose_vlp.values.cache import Cache
from compose_vlp.values.chosen import Reads, choose_positions
from compose_vlp.values.tables import TextTable


def _keys(c: "CausalDecoder.Config") -> Keys:
    norm = (c.norm, c.norm_eps) if c.context_norm else None
    return keys_of_stack(c.depth, c.heads, (c.width, c.context_width), norm=norm)


@component(
    "causal_decoder",
    rows="independent",
    state="none",
    draws="noise",
    noise=("dropout",),
    context="indexed",
    keys=_keys,
    layers="depth",
    last_layer=True,
)
class CausalDecoder(nn.Module):
    """Pre-norm transformer in which a position sees only itself and earlier ones.

    Given a Text it embeds the tokens and adds learned positions; given a Sequence it takes the features as they are,
    so that one decoder can go on where another ended, as CoCa's multimodal half does (Yu et al. 2022, 3.2).
    `cls: last` puts a learned vector after the words: it sees all of them, and none of them sees it.
    """

    class Config(TowerSettings):
        width: int = inferred(
            "context.width", "features of a token: the input's; of words the context's, if left out", free=True
        )
        heads: int = Field(12, gt=0, description="attention heads; they divide the width")
        cls: Literal["none", "last"] = Field("none", description="is a CLS vector put after the words?")
        cls_mask: Literal["correct", "shifted"] = Field(
            "correct",
            description="what the CLS sees: all words, no padding; or what open_clip's released CoCa sees: padding is "
            "told by its id, and the mask stands one place too far right (for every position, its own slot first)",
        )
        cross_attention: bool = Field(False, description="does each layer look at the context?")
        cross_ffn: bool = Field(
            False, description="an FFN after each of the two attentions (open_clip), not one after both"
        )
        context_norm: bool = Field(False, description="has each layer a norm of its own for the context?")
        final_norm: Literal["all", "cls", "none"] = Field(
            "all", description="what the last norm is for: every position, the CLS alone, or nothing"
        )
        norm_eps: float = Field(1e-5, gt=0, description="added to the variance in every norm")
        dropout: float = Field(0.0, ge=0, lt=1, description="of the embeddings and of every branch, in training")
        vocab_size: int | None = inferred(description="rows of the token table; none where the input is a Sequence")
        length: int | None = inferred(description="positions: the longest text's frame, the CLS not counted")
        context_width: int | None = inferred(description="features of the context")

    parts: Mapping[str, str] = {
        "embedding": "embedding.weight",
        "positions": "positions",
        "self_attention": "layers.*.self_attention",
        "cross_attention": "layers.*.cross_attention",
        "ffn": "layers.*.ffn",
    }

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        last = c.cls == "last"
        self.embedding = nn.Embedding(c.vocab_size, c.width) if c.vocab_size else None
        table = bool(c.vocab_size) and c.has_table
        self.positions = nn.Parameter(torch.empty((c.length or 0) + last, c.width)) if table else None
        self.cls = nn.Parameter(torch.empty(c.width)) if last else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=0.02)
        for vectors in (self.positions, self.cls):
            if vectors is not None:
                nn.init.normal_(vectors, std=0.01)
        self.dropout = nn.Dropout(c.dropout)
        self.layers = Stack(_layer(c) for _ in range(c.depth))
        self.norm = None if c.final_norm == "none" else c.make_norm(c.width)

    def forward(
        self,
        x: Annotated[Text, "rows length vocab_size", PAST] | Annotated[Sequence, "rows tokens width", PAST],
        context: Annotated[Sequence, "rows any_tokens context_width", ALL, When("cross_attention", True, must=True)]
        | None = None,
        *,
        cache: Cache | None = None,
        kv: ContextKeys | None = None,
        rows: Tensor | None = None,
        read: Reads | None = None,
    ) -> Annotated[Sequence, "rows tokens width"]:
        """`[batch, tokens]` ids or `[batch, tokens, width]` to `[batch, tokens (+ 1), width]`.

        With `cache`, x holds the positions that come next, and no CLS is put behind them. `kv` replaces the context by
        its keys and values, `rows` `[batch]` names the context of each row.
        """
        hidden = self._embedded(x, cache)
        valid = self._valid(x, cache)
        if kv is not None and rows is not None:
            kv = kv.of(rows)
        seen = kv or context
        scope = Scope(valid, causal=True, places=self._places(hidden, cache), cache=cache)
        chosen = choose_positions(read, self._result(x, hidden, cache).parts, hidden)
        hidden = self.layers(hidden, scope, [seen] if seen else (), chosen)
        return self._result(x, self._normed(hidden, cache), cache)

    def keys_values(self, context: Sequence) -> ContextKeys:
        """The context's keys and values for every layer: what `forward` takes as `kv`."""
        return self.layers.keys_values([context])[0]

    def _embedded(self, x: Text | Sequence, cache: Cache | None) -> Tensor:
        if isinstance(x, Sequence):
            hidden = x.features
        else:
            if self.embedding is None:
                raise ValueError("built for a Sequence, given a Text")
            hidden = self.embedding(x.ids)
            if self.positions is not None:
                start = 0 if cache is None else cache.length
                hidden = hidden + self.positions[start : start + x.ids.shape[1]]
        if self.cls is not None and cache is None:
            # The CLS has the last row of the whole frame, however far the batch is trimmed.
            cls = self.cls if self.positions is None else self.cls + self.positions[-1]
            hidden = torch.cat((hidden, cls.to(hidden.dtype).expand(hidden.shape[0], 1, -1)), 1)
        embedded: Tensor = self.dropout(hidden)
        return embedded

    def _places(self, hidden: Tensor, cache: Cache | None) -> Tensor | None:
        """`[n, 1]` where a CLS of words stands at the end of the whole frame, however far the batch is trimmed."""
        if not self.config.turns or self.cls is None or cache is not None or not self.config.length:
            return None
        places = torch.arange(hidden.shape[1], device=hidden.device)
        places[-1] = self.config.length
        return places[:, None]

    def _valid(self, x: Text | Sequence, cache: Cache | None) -> Tensor | None:
        """`[batch, keys]`; None where padding comes last, which is hidden from words by causality alone."""
        if self.config.cls_mask == "shifted" and isinstance(x, Text):
            return _shifted(x, cache)
        if self.cls is not None and cache is None:
            return _and_cls(x.valid)
        trailing = isinstance(x, Text) or (len(x.parts) == 1 and x.parts[0].cls != "last")
        valid = None if trailing else x.valid
        return valid if cache is None else cache.valid(valid, _positions(x))

    def _normed(self, hidden: Tensor, cache: Cache | None) -> Tensor:
        if self.norm is None:
            return hidden
        if self.config.final_norm == "all":
            normed: Tensor = self.norm(hidden)
            return normed
        return hidden if cache is not None else torch.cat((hidden[:, :-1], self.norm(hidden[:, -1:])), 1)

    def _result(self, x: Text | Sequence, hidden: Tensor, cache: Cache | None) -> Sequence:
        if isinstance(x, Text):
            parts: tuple[Part, ...] = (Part("language", 0, x.ids.shape[1], text=x),)
        else:
            parts = tuple(replace(p, cls=_cls(self.config, p)) for p in x.parts)
        if self.cls is None or cache is not None:
            return Sequence(hidden, parts, x.valid)
        return Sequence(hidden, (replace(parts[0], length=hidden.shape[1], cls="last"),), _and_cls(x.valid))

    @staticmethod
    def tables(config: Config) -> Mapping[str, TextTable]:
        return {"positions": TextTable(last=int(config.cls == "last"))}

    @staticmethod
    def output(config: Config, ports: Mapping[str, Any]) -> SequenceType:
        x, context = ports["x"], ports.get("context")
        seen = [] if context is None else [merge_reads(context.reads, at_least=Flow.ALL)]
        if isinstance(x, TextType):
            own = merge_reads(x.reads, {x.root: Flow.EACH}, at_least=Flow.PAST)
            length = None if x.length is None else x.length + (config.cls == "last")
            parts: tuple[PartType, ...] = (PartType("language", length, config.cls, x, merge_reads(own, *seen)),)
        else:
            parts = _causal_parts(config, x, seen)
        return SequenceType(x.rows, merge_reads(*(p.reads for p in parts)), width=config.width, parts=parts)

    @staticmethod
    def check(config: Config) -> tuple[Clash, ...]:
        clashes = [*heads_divide_width(config), *no_biases(config)]
        if config.cls == "none":
            needing = [name for name, value in (("final_norm", "cls"), ("cls_mask", "shifted"))
                       if getattr(config, name) == value]  # fmt: skip
            clashes += [Clash(f"{name}: {getattr(config, name)} needs cls: last", (name, "cls")) for name in needing]
        if not config.cross_attention:
            needing = [name for name in ("cross_ffn", "context_norm") if getattr(config, name)]
            clashes += [Clash(f"{name} needs cross_attention: true", (name, "cross_attention")) for name in needing]
        return tuple(clashes)


def _positions(x: Text | Sequence) -> int:
    return x.ids.shape[1] if isinstance(x, Text) else x.features.shape[1]


def _and_cls(valid: Tensor | None) -> Tensor | None:
    return None if valid is None else torch.cat((valid, valid.new_ones(valid.shape[0], 1)), 1)


def _shifted(x: Text, cache: Cache | None) -> Tensor:
    """open_clip's mask: place 0 is always seen, place j + 1 where token j is not the padding id."""
    words = x.ids != x.pad
    if cache is None:
        return torch.cat((words.new_ones(words.shape[0], 1), words), 1)
    words = cache.append("words", words[..., None, None], words[..., None, None])[0][..., 0, 0]
    return torch.cat((words.new_ones(words.shape[0], 1), words[:, :-1]), 1)


def _causal_parts(config: CausalDecoder.Config, x: SequenceType, seen: list[dict[str, Flow]]) -> tuple[PartType, ...]:
    """Each part sees itself up to each position, and the parts before it whole."""
    if config.cls == "last" and len(x.parts) > 1:
        raise UserError(f"`cls: last` needs a sequence of one part; this one has {[p.name for p in x.parts]}")
    parts = []
    for part in x.parts:
        reads = merge_reads(merge_reads(part.reads, at_least=Flow.PAST), *seen)
        length = None if part.length is None else part.length + (config.cls == "last")
        parts.append(PartType(part.name, length, _cls(config, part), part.text, reads))
        seen = [*seen, merge_reads(part.reads, at_least=Flow.ALL)]
    return tuple(parts)


def _cls(config: CausalDecoder.Config, part: Part | PartType) -> Literal["last", "none"]:
    """A CLS that came first sees nothing here but itself: it is one no more."""
    return "last" if "last" in (config.cls, part.cls) else "none"


def _layer(c: CausalDecoder.Config) -> Layer:
    std = branch_std(c.width, c.depth)
    across = None
    if c.cross_attention:
        context_width = c.context_width or c.width
        norm = c.make_norm(context_width) if c.context_norm else None
        across = CrossAttention(c.width, c.heads, context_width, norm=norm, std=std)
    return build_layer(
        c,
        c.width,
        c.heads,
        placement="pre",
        cross_attention=across,
        ffn_between=c.cross_attention and c.cross_ffn,
        dropout=c.dropout,
        std=std,
    )
