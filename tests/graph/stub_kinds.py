"""Kinds without a tensor, for what the real ones do not show: all others are those of the registry.

They have settings and ports of the language's five papers in `tests/data/papers`, of which no model is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from compose_vlp import registry
from compose_vlp.graph.kinds import Category, Clash, Kind, Pattern, Port, Setting, Traits
from compose_vlp.graph.signature import signature
from compose_vlp.graph.types import (
    Flow,
    LabelsType,
    MaskType,
    NumberType,
    Part,
    SequenceType,
    SimilarityType,
    TextType,
    merge_reads,
    one_part,
)
from compose_vlp.registry import Settings, inferred

EACH, PAST, ALL = Flow.EACH, Flow.PAST, Flow.ALL
KINDS: dict[str, Kind] = {}


class Library:
    """What the checker takes for the registry; `more` are kinds of one test."""

    def __init__(self, *more: Kind) -> None:
        self.kinds = {**KINDS, **{kind.name: kind for kind in more}}

    def get(self, name: str) -> Kind:
        return self.kinds[name] if name in self.kinds else registry.get(name)

    def names(self, *categories: str) -> list[str]:
        mine = {name for name, kind in self.kinds.items() if not categories or kind.category in categories}
        return sorted({*mine, *registry.names(*categories)} - {name for name in self.kinds if name not in mine})

    def fields_of(self, name: str) -> frozenset[str] | None:
        kind = self.kinds.get(name)
        return frozenset({*kind.settings, *kind.ports}) if kind else registry.fields_of(name)


# --- building kinds -----------------------------------------------------------------------------------------------


def port(name: str, accepts: str = "", **more: Any) -> Port:
    """`port("x", "Text rows length | Sequence rows tokens width", flow=PAST)`; optional where it has a default."""
    patterns = tuple(
        Pattern(kind, tuple(dims)) for kind, *dims in (pattern.split() for pattern in accepts.split("|") if pattern)
    )
    if more.get("literal_types") or more.get("choices"):
        more["literal"] = True
    return Port(name, patterns, **more)


def settings_of(config: type[Settings] | None) -> dict[str, Setting]:
    actual = {}
    for name, info in config.model_fields.items() if config else ():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        source = extra.get("inferred")
        annotation = info.annotation.__name__ if isinstance(info.annotation, type) else str(info.annotation)
        default = ... if info.is_required() else info.get_default(call_default_factory=True)
        actual[name] = Setting(
            name,
            annotation,
            default,
            inferred=source if isinstance(source, str) else None,
            free=bool(extra.get("free")),
        )
    return actual


def kind(
    name: str,
    ports: list[Port],
    returns: str | None = None,
    *,
    category: Category = "component",
    config: type[Settings] | None = None,
    output: Callable[..., Any] | None = None,
    traits: Traits | None = None,
    flows: Callable[[Any], Mapping[str, Flow]] | None = None,
    **more: Any,
) -> Kind:
    by_name = {port.name: port for port in ports}
    result = Pattern(returns.split()[0], tuple(returns.split()[1:])) if returns else Pattern("Scalar")
    quiet = Traits("independent", "none", "none")
    made = Kind(
        name,
        category,
        by_name,
        output or signature(by_name, result, flows),
        settings_of(config),
        config,
        traits or quiet,
        flows=flows,
        trainable=category == "component",
        **more,
    )
    KINDS[name] = made
    return made


def heads_divide(config: Any) -> tuple[Clash, ...]:
    if config.width % config.heads:
        near = [n for n in range(1, config.width + 1) if config.width % n == 0]
        best = min(near, key=lambda n: abs(n - config.heads))
        message = f"heads {config.heads} do not divide width {config.width}"
        return (Clash(message, ("heads", "width"), (f"heads: {best}",)),)
    return ()


# --- tokenizers and sources ---------------------------------------------------------------------------------------


class TokenizerConfig(Settings):
    vocab_size: int = Field(30522, gt=0)
    tokens: tuple[str, ...] = ()
    file: str | None = None


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def describe_tokenizer(config: TokenizerConfig) -> dict[str, Any]:
    return {"vocab_size": config.vocab_size + len(config.tokens), "tokens": (*SPECIAL, *config.tokens)}


for _name in ("wordpiece", "bpe", "sentencepiece"):
    kind(_name, [], category="tokenizer", config=TokenizerConfig, describe=describe_tokenizer)


class FileSource(Settings):
    path: str = ""


for _name in ("scenes", "jsonl"):
    kind(_name, [], category="source", config=FileSource)


# --- image towers -------------------------------------------------------------------------------------------------


class VitConfig(Settings):
    width: int = Field(768, gt=0)
    depth: int = Field(12, ge=0)
    heads: int = Field(12, gt=0)
    patch: int = Field(16, gt=0)
    cls: Literal["first", "none"] = "first"
    positions: Literal["learned", "rope", "none"] = "learned"
    size: int = inferred()


def vit_output(config: Any, ports: Mapping[str, Any]) -> SequenceType:
    length = (config.size // config.patch) ** 2 + (config.cls == "first")
    parts = one_part("vision", length, cls=config.cls, reads=[ports["image"].reads])
    return SequenceType(ports["image"].rows, width=config.width, parts=parts)


def vit_check(config: Any) -> tuple[Clash, ...]:
    clashes = heads_divide(config)
    if config.size % config.patch:
        fits = [p for p in range(1, config.size + 1) if config.size % p == 0]
        best = min(fits, key=lambda p: abs(p - config.patch))
        message = f"patch {config.patch} does not divide size {config.size}"
        clashes += (Clash(message, ("patch", "size"), (f"patch: {best}",)),)
    return clashes


kind(
    "vit",
    [port("image", "Image rows size", flow=EACH)],
    config=VitConfig,
    output=vit_output,
    check=vit_check,
    parts={"self_attention": "layers.*.self_attention", "ffn": "layers.*.ffn", "positions": "positions"},
)


class SwinConfig(Settings):
    width: int = 1024
    depth: int = 4


def swin_output(config: Any, ports: Mapping[str, Any]) -> SequenceType:
    return SequenceType(
        ports["image"].rows, width=config.width, parts=one_part("vision", 49, reads=[ports["image"].reads])
    )


kind("swin", [port("image", "Image rows size", flow=EACH)], config=SwinConfig, output=swin_output)


# --- text towers --------------------------------------------------------------------------------------------------


def text_sequence(x: Any, reads: Mapping[str, Flow], width: int | None, **more: Any) -> SequenceType:
    """A Sequence on the words of `x`, a Text or a Sequence."""
    text = x if isinstance(x, TextType) else x.parts[0].text
    part = Part("text", x.sizes().get("tokens") or x.sizes().get("length"), text=text, reads=reads, **more)
    return SequenceType(x.rows, reads, width=width, parts=(part,))


def context_reads(ports: Mapping[str, Any]) -> dict[str, Flow]:
    context = ports.get("context")
    several = context if isinstance(context, tuple) else (context,) if context is not None else ()
    return merge_reads(*(value.reads for value in several), at_least=ALL)


TEXT_PARTS = {
    "embedding": "embedding.weight",
    "self_attention": "layers.*.self_attention",
    "cross_attention": "layers.*.cross_attention",
    "ffn": "layers.*.ffn",
}


class CausalConfig(Settings):
    width: int = inferred("context.width", free=True)
    depth: int = Field(12, ge=0)
    heads: int = Field(12, gt=0)
    cls: Literal["none", "last"] = "none"
    cross_attention: bool = False
    vocab_size: int | None = inferred()
    length: int | None = inferred()
    context_width: int | None = inferred()


def causal_output(config: Any, ports: Mapping[str, Any]) -> SequenceType:
    x = ports["x"]
    own = x.reads if isinstance(x, TextType) else x.parts[0].reads
    reads = merge_reads(merge_reads(own, at_least=PAST), context_reads(ports))
    made = text_sequence(x, reads, config.width, cls=config.cls)
    length = made.parts[0].length
    part = replace(made.parts[0], length=length and length + (config.cls == "last"))
    return replace(made, parts=(part,))


kind(
    "causal_decoder",
    [
        port("x", "Text rows length vocab_size | Sequence rows tokens width", flow=PAST),
        port("context", "Sequence rows any_tokens context_width", default=None),
    ],
    config=CausalConfig,
    output=causal_output,
    check=heads_divide,
    parts=TEXT_PARTS,
    cached=True,
)


# --- fusing -------------------------------------------------------------------------------------------------------


class MultiwayConfig(Settings):
    width: int = inferred()
    depth: int = Field(12, ge=0)
    heads: int = Field(12, gt=0)
    experts: tuple[str, ...] = ("vision", "language")
    positions: Literal["learned", "relative", "rope", "none"] = "none"
    layer_scale: float | None = None
    final_norm: bool = True
    sub_norm: bool = False
    attention_experts: bool = False


def multiway_output(config: Any, ports: Mapping[str, Any]) -> SequenceType:
    """`attention="prefix"`: every position sees the image, words see earlier words; else everything sees everything."""
    x = ports["x"]
    if ports.get("attention", "all") == "all":
        everything = merge_reads(*(part.reads for part in x.parts), at_least=ALL)
        return replace(x, parts=tuple(replace(part, reads=everything) for part in x.parts))
    images = merge_reads(*(part.reads for part in x.parts if part.text is None), at_least=ALL)
    parts = tuple(
        replace(
            part, reads=images if part.text is None else merge_reads(merge_reads(part.reads, at_least=PAST), images)
        )
        for part in x.parts
    )
    return replace(x, parts=parts)


kind(
    "multiway_transformer",
    [
        port("x", "Sequence rows tokens width"),
        port("expert", literal_types=("str",), default=None),
        port("attention", choices=("all", "prefix"), default="all"),
    ],
    config=MultiwayConfig,
    output=multiway_output,
    parts={"relative_bias": "relative_bias", "self_attention": "layers.*.self_attention"},
    cached=True,
)


class EmbeddingConfig(Settings):
    width: int = Field(768, gt=0)
    patch: int = 16
    positions: Literal["learned", "none"] = "learned"
    modality_type: bool = False
    mask_token: bool = False
    size: int = inferred()


def patches_output(config: Any, ports: Mapping[str, Any]) -> SequenceType:
    parts = one_part("vision", (config.size // config.patch) ** 2 + 1, cls="first", reads=[ports["image"].reads])
    return SequenceType(ports["image"].rows, width=config.width, parts=parts)


kind(
    "patch_embedding",
    [port("image", "Image rows size", flow=EACH), port("hidden", "Mask rows", default=None)],
    config=EmbeddingConfig,
    output=patches_output,
)


class WordsConfig(Settings):
    width: int = Field(768, gt=0)
    positions: Literal["learned", "none"] = "learned"
    modality_type: bool = False
    vocab_size: int = inferred()
    length: int = inferred()


def words_output(config: Any, ports: Mapping[str, Any]) -> SequenceType:
    made = text_sequence(ports["x"], ports["x"].reads, config.width, cls="first")
    return replace(made, parts=(replace(made.parts[0], name="language"),))


for _name in ("bert_embedding", "token_embedding"):
    kind(
        _name,
        [port("x", "Text rows length vocab_size", flow=EACH)],
        config=WordsConfig,
        output=words_output,
        parts={"embedding": "embedding.weight"},
    )


# --- pooling and heads --------------------------------------------------------------------------------------------


class WidthConfig(Settings):
    width: int = inferred()


kind("pooler", [port("x", "Embedding rows width", flow=EACH)], "Embedding rows width", config=WidthConfig)


class AdapterConfig(Settings):
    hidden: int = Field(64, gt=0)
    width: int = inferred()


kind(
    "adapter", [port("x", "Sequence rows tokens width", flow=EACH)], "Sequence rows tokens width", config=AdapterConfig
)


# --- choices and state --------------------------------------------------------------------------------------------


class PatchMaskerConfig(Settings):
    ratio: float = Field(0.4, gt=0, lt=1)


kind(
    "patch_masker",
    [port("image", "Image rows size", flow=EACH)],
    config=PatchMaskerConfig,
    output=lambda config, ports: MaskType(ports["image"].rows, root=ports["image"].root),
    traits=Traits("independent", "none", "choice", cuts=True),
)


class CodebookConfig(Settings):
    classes: int = 8192


kind(
    "visual_tokenizer",
    [port("image", "Image rows size")],
    config=CodebookConfig,
    output=lambda config, ports: LabelsType(ports["image"].rows, classes=config.classes),
)


# --- functions ----------------------------------------------------------------------------------------------------


def function(name: str, ports: list[Port], returns: str | None = None, **more: Any) -> None:
    kind(name, ports, returns, category="function", **more)


# --- losses -------------------------------------------------------------------------------------------------------


def loss(name: str, ports: list[Port], config: type[Settings] | None = None, foretells: Any = "nothing") -> None:
    kind(name, ports, category="loss", config=config, traits=Traits("batch", "none", "none", foretells=foretells))


loss(
    "masked_lm",
    [
        port("logits", "Logits rows length classes"),
        port("labels", "Labels rows"),
        port("soft", "Logits rows length classes", detached=True, default=None),
        port("alpha", literal_types=("float",), default=0.0),
    ],
    foretells="hidden",
)
loss(
    "masked_codes",
    [
        port("logits", "Logits rows places classes"),
        port("codes", "Labels rows places classes"),
        port("at", "Mask rows"),
    ],
    foretells="hidden",
)

__all__ = ["KINDS", "Library", "NumberType", "SimilarityType", "kind", "port"]
