"""BERT's upper layers, which look from words at pictures."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.attention import ContextKeys, Scope, heads_divide_width, picked
from compose_vlp.components.layers.bert import BertSettings, Pairing, cross_attention, draw_like_bert
from compose_vlp.components.layers.transformer import (
    DEEPEST,
    Context,
    Layer,
    Stack,
    build_layer,
    keys_of_stack,
    no_biases,
)
from compose_vlp.graph.kinds import Clash, Keys
from compose_vlp.registry import ALL, When, component, inferred
from compose_vlp.slots import Part as SlotPart
from compose_vlp.slots import slot
from compose_vlp.values import Sequence, as_list
from compose_vlp.values.chosen import Reads, choose_positions


def _keys(c: "CrossAttentionFuser.Config") -> Keys:
    several = (c.contexts or 1) > 1
    layout = (c.pairing, c.contexts, *((c.share_from,) if c.pairing == "alternate" else ())) if several else ()
    return keys_of_stack(c.depth, c.heads, (c.width, c.context_width), layout=layout)


@component(
    "cross_attention_fuser",
    rows="independent",
    state="none",
    draws="noise",
    noise=("dropout", "attention_dropout"),
    context="indexed",
    keys=_keys,
    layers="depth",
    last_layer=True,
)
class CrossAttentionFuser(nn.Module):
    """Post-norm layers of self-attention, cross-attention to the context, and an FFN: the upper half of ALBEF's BERT
    (Li et al. 2021, 3.1).

    At several contexts it looks in one of two ways. `alternate`: every layer stands there once for each context, one
    after the other, and these twins share the maps to keys and values (ALBEF's NLVR2, 4.4). `merge`: every layer has a
    cross-attention for each; what they give is averaged below `merge_from`, and mapped from its concatenation above
    (BLIP's NLVR2).
    """

    class Config(BertSettings):
        depth: int = Field(
            6, ge=0, le=DEEPEST, description="layers; each counted once, however many contexts it looks at"
        )
        heads: int = Field(12, gt=0, description="attention heads; they divide the width")
        pairing: Pairing = Field("alternate", description="how several contexts are looked at")
        share_from: int = Field(
            0,
            ge=0,
            description="first layer whose twins, in alternate pairing, share their maps to keys and values; the depth "
            "for none",
        )
        merge_from: int | None = Field(
            None,
            ge=0,
            description="first layer that maps what several contexts gave, in merge pairing; half of the depth if left "
            "out",
        )
        positions: SlotPart = slot("positions", "none", "what tells positions apart; what comes in has its own mostly")
        width: int = inferred(description="features of a position")
        context_width: int | None = inferred(description="features of the context")
        contexts: int | None = inferred("context.count", "contexts that are looked at together")

    parts: Mapping[str, str] = {
        "self_attention": "layers.*.self_attention",
        "cross_attention": "layers.*.cross_attention",
        "ffn": "layers.*.ffn",
    }

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        self.layers = Stack(_layers(c))
        draw_like_bert(self, c.init_std)

    def forward(
        self,
        x: Annotated[Sequence, "rows tokens width", ALL],
        context: list[Annotated[Sequence, "rows any_tokens context_width", ALL, When()]] | None = None,
        *,
        kv: ContextKeys | list[ContextKeys] | None = None,
        rows: Tensor | None = None,
        read: Reads | None = None,
    ) -> Annotated[Sequence, "rows tokens width"]:
        """`[batch, tokens, width]`, looking at `[batch, context_tokens, context_width]`, to `[batch, tokens, width]`.

        `kv` replaces the context by its keys and values, `rows` `[batch]` names the context of each row.
        """
        contexts: list[Context] = [*as_list(context), *picked(kv, rows)]
        chosen = choose_positions(read, x.parts, x.features)
        return x.with_features(self.layers(x.features, Scope(x.valid), contexts, chosen))

    def keys_values(self, context: Sequence | list[Sequence]) -> list[ContextKeys]:
        """Each context's keys and values for every layer that looks at it: what `forward` takes as `kv`."""
        return self.layers.keys_values(as_list(context))

    @staticmethod
    def check(config: Config) -> tuple[Clash, ...]:
        table = Clash("a fuser has no table of positions", ("positions",), ("positions: none",))
        return (
            *heads_divide_width(config),
            *no_biases(config),
            *([table] if config.has_table else []),
            *_unread(config),
        )


def _unread(c: CrossAttentionFuser.Config) -> Iterator[Clash]:
    """Find settings of several contexts that nothing reads: there is one, or they are looked at in the other way."""
    for name, pairing, is_set in (
        ("share_from", "alternate", c.share_from > 0),
        ("merge_from", "merge", c.merge_from is not None),
    ):
        if is_set and (c.contexts or 1) == 1:
            yield Clash(f"`{name}` is read at several contexts, and there are none", (name,))
        elif is_set and c.pairing != pairing:
            yield Clash(f"`{name}` is read in {pairing} pairing", (name, "pairing"), (f"pairing: {pairing}",))


def _layers(c: CrossAttentionFuser.Config) -> Iterator[Layer]:
    merges = c.pairing == "merge"
    merge_from = c.depth // 2 if c.merge_from is None else c.merge_from
    for i in range(c.depth):
        twins = [_layer(c, mapped=i >= merge_from) for _ in range(1 if merges else c.contexts or 1)]
        if i >= c.share_from:
            for twin in twins[1:]:
                _branch(twin).kv = _branch(twins[0]).kv
        yield from twins


def _branch(layer: Layer) -> nn.Module:
    assert layer.cross_attention is not None
    return layer.cross_attention.branch


def _layer(c: CrossAttentionFuser.Config, *, mapped: bool) -> Layer:
    together = (c.contexts or 1) if c.pairing == "merge" else 1
    across = cross_attention(
        c.width, c.heads, c.context_width or c.width, contexts=together, mapped=mapped, dropout=c.attention_dropout
    )
    return build_layer(
        c,
        c.width,
        c.heads,
        placement="post",
        cross_attention=across,
        dropout=c.dropout,
        attention_dropout=c.attention_dropout,
    )
