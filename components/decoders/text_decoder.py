"""BERT as a decoder: every word sees those before it, and a context."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from compose_vlp.components.layers.attention import ContextKeys, Scope, heads_divide_width, picked
from compose_vlp.components.layers.bert import TEXT_PARTS, BertText, BertTextSettings, cross_attention
from compose_vlp.components.layers.transformer import Context, Layer, build_layer, keys_of_stack, no_biases
from compose_vlp.graph.kinds import Clash, Keys
from compose_vlp.registry import ALL, PAST, AsPart, When, component, inferred
from compose_vlp.values import Part, Sequence, Text, as_list
from compose_vlp.values.cache import Cache
from compose_vlp.values.chosen import Reads, choose_positions

BERT_HEAD = 64
"""Features of a head in BERT's models of every size."""


def _keys(c: "TextDecoder.Config") -> Keys:
    return keys_of_stack(c.depth, heads_of(c), (c.width, c.context_width))


@component(
    "text_decoder",
    rows="independent",
    state="none",
    draws="noise",
    noise=("dropout", "attention_dropout"),
    context="indexed",
    keys=_keys,
    layers="depth",
    last_layer=True,
)
class TextDecoder(BertText):
    """BERT's post-norm layers with a causal self-attention and, where a context is given, a cross-attention to it.

    BLIP's decoder shares all but its self-attention with the encoder, `share: {"*": text, self_attention: own}` (Li et
    al. 2022, 3.1); ALBEF's answers questions (Li et al. 2021, 4.3). Its weights have the names of `bert_encoder`'s.
    """

    class Config(BertTextSettings):
        width: int = inferred("context.width", "features of a token; the context's, if left out", free=True)
        heads: int | None = Field(
            None, gt=0, description="attention heads; they divide the width; one for 64 features, as BERT, if left out"
        )
        cross_attention: Literal["none", "optional"] = Field(
            "optional", description="may each layer look at a context? It goes without one where none is given"
        )

    parts: Mapping[str, str] = TEXT_PARTS

    def __init__(self, config: Config) -> None:
        c = config
        super().__init__(c, c.width, _layers(c))
        self.config = c

    def forward(
        self,
        x: Annotated[Text, "rows length vocab_size", PAST],
        context: Annotated[Sequence, "rows any_tokens context_width", ALL, When("cross_attention", "optional")]
        | None = None,
        *,
        cache: Cache | None = None,
        kv: ContextKeys | list[ContextKeys] | None = None,
        rows: Tensor | None = None,
        read: Reads | None = None,
    ) -> Annotated[Sequence, "rows length width", AsPart("language")]:
        """`[batch, length]` ids to `[batch, length, width]`.

        With `cache`, x holds the words that come next. `kv` replaces the context by its keys and values, `rows`
        `[batch]` names the context of each row. Causality hides padding from the words; it is masked all the same, so
        that what stands at padded places is what BERT gives there.
        """
        contexts: list[Context] = [*as_list(context), *picked(kv, rows)]
        embedded = self.embed(x.ids, 0 if cache is None else cache.length)
        valid = x.valid if cache is None else None
        parts = (Part("language", 0, x.ids.shape[1], text=x),)
        chosen = choose_positions(read, parts, embedded)
        features = self.layers(embedded, Scope(valid, causal=True, cache=cache), contexts, chosen)
        return Sequence(features, parts, x.valid)

    def keys_values(self, context: Sequence) -> list[ContextKeys]:
        """The context's keys and values for every layer: what `forward` takes as `kv`."""
        return self.layers.keys_values([context])

    @staticmethod
    def check(config: Config) -> tuple[Clash, ...]:
        divides = heads_divide_width(config) if config.heads is not None else ()
        return (*divides, *no_biases(config))


def _layers(c: TextDecoder.Config) -> Iterator[Layer]:
    context_width = None if c.cross_attention == "none" else c.context_width
    for _ in range(c.depth):
        across = (
            None
            if context_width is None
            else cross_attention(c.width, heads_of(c), context_width, dropout=c.attention_dropout)
        )
        yield build_layer(
            c,
            c.width,
            heads_of(c),
            placement="post",
            cross_attention=across,
            dropout=c.dropout,
            attention_dropout=c.attention_dropout,
        )


def heads_of(c: TextDecoder.Config) -> int:
    """As many as are asked for, or else as divide the width at 64 features each or a little more."""
    if c.heads is not None:
        return c.heads
    return max(n for n in range(1, max(c.width // BERT_HEAD, 1) + 1) if c.width % n == 0)
