"""BERT as an encoder of words, which may look at pictures on the way."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from compose_vlp.components.layers.attention import ContextKeys, Scope, heads_divide_width, picked
from compose_vlp.components.layers.bert import TEXT_PARTS, BertText, BertTextSettings, cross_attention
from compose_vlp.components.layers.transformer import Context, Layer, build_layer, keys_of_stack, no_biases
from compose_vlp.graph.kinds import Clash, Keys
from compose_vlp.registry import ALL, AsPart, When, component, inferred
from compose_vlp.values import Part, Sequence, Text, as_list
from compose_vlp.values.chosen import Reads, choose_positions


def _keys(c: "BertEncoder.Config") -> Keys:
    several = (c.contexts or 1) > 1
    return keys_of_stack(c.depth, c.heads, (c.width, c.context_width), layout=("merge", c.contexts) if several else ())


@component(
    "bert_encoder",
    rows="independent",
    state="none",
    draws="noise",
    noise=("dropout", "attention_dropout"),
    context="indexed",
    keys=_keys,
    layers="depth",
    last_layer=True,
)
class BertEncoder(BertText):
    """BERT (Devlin et al. 2019): post-norm layers in which every word sees every other. The first token is the CLS.

    With `cross_attention: optional` each layer looks at the context between its self-attention and its FFN, and where
    none is given it goes without: BLIP's text tower, alone and grounded in the image (Li et al. 2022, 3.1). At several
    contexts a layer looks at once, by a cross-attention each; what they give is averaged below `merge_from`, and mapped
    from its concatenation above, as BLIP does for NLVR2 (figure 5 c).
    """

    class Config(BertTextSettings):
        width: int = Field(768, gt=0, description="features of a token")
        heads: int = Field(12, gt=0, description="attention heads; they divide the width")
        cross_attention: Literal["none", "optional"] = Field(
            "none", description="may each layer look at a context? It goes without one where none is given"
        )
        merge_from: int | None = Field(
            None, ge=0, description="first layer that maps what several contexts gave; half of the depth if left out"
        )
        contexts: int | None = inferred("context.count", "contexts that are looked at together")

    parts: Mapping[str, str] = TEXT_PARTS

    def __init__(self, config: Config) -> None:
        c = config
        super().__init__(c, c.width, _layers(c))
        self.config = c

    def forward(
        self,
        x: Annotated[Text, "rows length vocab_size", ALL],
        context: list[Annotated[Sequence, "rows any_tokens context_width", ALL, When("cross_attention", "optional")]]
        | None = None,
        *,
        kv: ContextKeys | list[ContextKeys] | None = None,
        rows: Tensor | None = None,
        read: Reads | None = None,
    ) -> Annotated[Sequence, "rows length width", AsPart("language", cls="first")]:
        """`[batch, length]` ids to `[batch, length, width]`.

        `kv` replaces the context by its keys and values, `rows` `[batch]` names the context of each row.
        """
        contexts: list[Context] = [*as_list(context), *picked(kv, rows)]
        embedded, parts = self.embed(x.ids), (Part("language", 0, x.ids.shape[1], "first", x),)
        features = self.layers(embedded, Scope(x.valid), contexts, choose_positions(read, parts, embedded))
        return Sequence(features, parts, x.valid)

    def keys_values(self, context: Sequence | list[Sequence]) -> list[ContextKeys]:
        """Each context's keys and values for every layer: what `forward` takes as `kv`."""
        return self.layers.keys_values(as_list(context))

    @staticmethod
    def check(config: Config) -> tuple[Clash, ...]:
        unread: tuple[Clash, ...] = ()
        if config.merge_from is not None and (config.contexts or 1) == 1:
            unread = (Clash("`merge_from` is read at several contexts, and there are none", ("merge_from",)),)
        return (*heads_divide_width(config), *no_biases(config), *unread)


def _layers(c: BertEncoder.Config) -> Iterator[Layer]:
    merge_from = c.depth // 2 if c.merge_from is None else c.merge_from
    context_width = None if c.cross_attention == "none" else c.context_width
    for i in range(c.depth):
        across = (
            None
            if context_width is None
            else cross_attention(
                c.width,
                c.heads,
                context_width,
                contexts=c.contexts or 1,
                mapped=i >= merge_from,
                dropout=c.attention_dropout,
            )
        )
        yield build_layer(
            c,
            c.width,
            c.heads,
            placement="post",
            cross_attention=across,
            dropout=c.dropout,
            attention_dropout=c.attention_dropout,
        )
