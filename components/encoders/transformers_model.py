"""Making models of the transformers library, and finding out on a tiny copy what they do with positions."""

import copy
import inspect
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from compose_vlp.components.attention import transformers_interface
from compose_vlp.components.layers.options import loading, without
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.files import is_folder
from compose_vlp.values.cache import Cache

FOREIGN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What other people's code raises when it is made or run in a way that it was not meant for."""

LOADS: Final = frozenset(
    {"_attn_implementation", "_experts_implementation", "_name_or_path", "attn_implementation", "auto_map", "backbone"}
    | {"experts_implementation", "kernel_config", "name_or_path", "quantization_config", "trust_remote_code"}
    | {"use_kernels", "use_pretrained_backbone", "use_timm_backbone"}
)
"""Entries of a configuration by which the library downloads weights, kernels or code, or runs some from a folder."""

TINY: Final = {
    "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 32,
    "moe_intermediate_size": 16,
}  # fmt: skip
VOCABULARY: Final = 64
LENGTH: Final = 6
LARGEST: Final = 500_000_000
"""Parameters of the largest copy that is made to try something on."""


class Facts(NamedTuple):
    """What a model does: its `width`, and whether a position sees earlier ones only (`causal`).

    `attention`: the implementation that it is run with, ours where that gives the same numbers, else the library's
    default, else its plainest; `cached`: it can go on from keys and values kept; `masked`: it is of a type that is
    trained on masked words, whose texts begin with a CLS; `after_padding`: its positions begin after the padding's id,
    as RoBERTa's do.
    """

    width: int
    causal: bool
    attention: str | None
    cached: bool
    masked: bool
    after_padding: bool


def facts(model: str, options: str, length: int | None) -> Facts:
    """Try on a tiny copy what a model does with texts of `length` positions; the answer is remembered.

    Raises:
        UserError: as `read_config`; also where it cannot be run on words alone, or has too few positions.
    """
    return _facts(model, options, length or LENGTH)


@cache
def _facts(model: str, options: str, length: int) -> Facts:
    from transformers.models.auto import modeling_auto

    config = read_config(model, options)
    masked = config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    writes = config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device("cpu"):
        torch.manual_seed(0)
        try:
            tiny, own = _tiny(config)
            width = _width(config)
        except FOREIGN as error:
            raise UserError(f"`model` {model!r} cannot be run on words alone: {_line(error)}") from error
        _check_length(own, model, length)
        attention, used = _attention(tiny, own)
        causal = writes and (not masked or getattr(config, "is_decoder", False)) and _holds(_is_causal, used)
        cached = causal and _holds(_goes_on, used)
        after_padding = _holds(_counts_after_padding, used)
        return Facts(width, causal, attention, cached, masked and not causal, after_padding)


# --- configurations and models ----------------------------------------------------------------------------------


def read_config(model: str, options: str) -> Any:
    """The library's configuration of a model type or folder, changed by `options` (JSON).

    Raises:
        UserError: no such type or folder, no such option, a value that the library refuses, or no text model.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        kind, written = _base_config(model)
        known = {*kind().to_dict(), *kind.attribute_map}
        changes = json.loads(options)
        for refused in loading(changes, LOADS):
            hints = ["weights come from a folder: `start: [{from: FOLDER, to: COMPONENT}]`"]
            raise UserError(f"`options` {refused!r} lets transformers load weights or code", hints=hints)
        for name in changes:
            if name not in known:
                raise UserError(f"{kind.model_type} has no `options` {name!r}", hints=did_you_mean(name, known))
        renamed = {kind.attribute_map.get(name, name): value for name, value in changes.items()}
        config = kind.from_dict({**without(written, LOADS), **renamed})
    except (*FOREIGN, OSError, StrictDataclassError) as error:
        raise UserError(f"transformers cannot read `model` {model!r} with these `options`: {_line(error)}") from error
    if model_class(config) is None:
        raise UserError(f"`model` {model!r} has no tower of its own for texts")
    if not isinstance(getattr(config, "vocab_size", None), int):
        raise UserError(f"`model` {model!r} has no vocabulary, so it is no text model")
    return config


def _base_config(model: str) -> tuple[Any, dict[str, Any]]:
    """The configuration's class, and what a folder writes in it (nothing for a model type)."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if model in CONFIG_MAPPING:
        return CONFIG_MAPPING[model], {}
    if not is_folder(model):
        hints = did_you_mean(model, CONFIG_MAPPING) or ("a model of the hub has to be downloaded to a folder first",)
        raise UserError(f"`model` {model!r} is neither a model type of transformers nor a folder", hints=hints)
    written = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    kind = written.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise UserError(f"`model` {model!r} is of type {kind!r}, which is not one of transformers' own")
    return CONFIG_MAPPING[kind], written


def model_class(config: Any) -> Any:
    """The class without a head; of an encoder and decoder the encoder's, None where it has no class of its own."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

    mapping = MODEL_FOR_TEXT_ENCODING_MAPPING if config.is_encoder_decoder else MODEL_MAPPING
    return mapping.get(type(config), None)


def sized(config: Any, vocabulary: int) -> Any:
    """A copy of the configuration for so many tokens; special tokens beyond them become the first."""
    config = copy.deepcopy(config)
    config.vocab_size = vocabulary
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        place = getattr(config, name, None)
        if isinstance(place, int) and place >= vocabulary:
            setattr(config, name, 0)
    return config


def make(config: Any, attention: str | None) -> Any:
    """A model with fresh float32 weights, without a head or pooler; `attention` names its implementation."""
    kind = model_class(config)
    takes_pooler = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    pooler = {"add_pooling_layer": False} if takes_pooler else {}
    config = copy.deepcopy(config)  # some classes change theirs
    return kind._from_config(config, attn_implementation=attention, dtype=torch.float32, **pooler)  # noqa: SLF001


# --- a tiny copy ------------------------------------------------------------------------------------------------


def _tiny(config: Any) -> tuple[Any, Any]:
    """A tiny configuration and its model, which computes attention plainly; as narrow as its class allows."""
    heads = getattr(config, "num_attention_heads", None) or 1
    wider = {**TINY, "hidden_size": 2 * (config.hidden_size // heads), "head_dim": config.hidden_size // heads}
    for sizes in (TINY, wider):
        try:
            return _made_tiny(config, sizes)
        except FOREIGN:
            continue
    return _made_tiny(config, {})


def _made_tiny(config: Any, sizes: dict[str, int]) -> tuple[Any, Any]:
    tiny = _shortened(config, 2)
    for name, value in sizes.items():
        if getattr(tiny, name, None) is not None:
            setattr(tiny, name, value)
    with torch.device("meta"):
        size = sum(p.numel() for p in make(tiny, "eager").parameters())
    if size > LARGEST:
        raise ValueError(f"not even a copy of two layers is small enough to be tried ({size:,} parameters)")
    model = make(tiny, "eager").eval()
    _run(model, _ids())
    return tiny, model


def _shortened(config: Any, layers: int) -> Any:
    """The configuration with fewer layers and words."""
    tiny = copy.deepcopy(config)
    types = vars(tiny).get("layer_types")
    if types:  # one of each at least
        tiny.layer_types = (list(dict.fromkeys(types)) + types)[: max(layers, len(set(types)))]
        layers = len(tiny.layer_types)
    tiny.num_hidden_layers = min(layers, tiny.num_hidden_layers)
    return sized(tiny, VOCABULARY)


def _width(config: Any) -> int:
    """Features of a position, from one layer; without numbers where its class allows."""
    short = _shortened(config, 1)
    try:
        with torch.device("meta"):
            return int(_run(make(short, "eager").eval(), torch.zeros(1, LENGTH, dtype=torch.long)).shape[-1])
    except FOREIGN:
        return int(_run(make(short, "eager").eval(), _ids()).shape[-1])


def _ids(length: int = LENGTH) -> Tensor:
    return torch.randint(4, VOCABULARY, (2, length), generator=torch.Generator().manual_seed(1))


def _run(model: Any, ids: Tensor, **others: Any) -> Tensor:
    features: Tensor = model(input_ids=ids, **others).last_hidden_state
    return features


def _check_length(model: Any, name: str, length: int) -> None:
    try:
        _run(model, _ids(length))
    except FOREIGN as error:
        raise UserError(f"`model` {name!r} has not enough positions for `length` {length}: {_line(error)}") from error


def _attention(tiny: Any, own: Any) -> tuple[str | None, Any]:
    """The best implementation of attention that gives the plainest one's numbers, and a model that uses it."""
    takes_ours = own._supports_attention_backend  # noqa: SLF001 (the library's flag)
    for name in (transformers_interface.register(), None) if takes_ours else (None,):
        try:
            model = make(tiny, name).eval()
            model.load_state_dict(own.state_dict())
            if _agree(model, own):
                return name, model
        except FOREIGN:
            continue
    return "eager", own


def _agree(model_a: Any, model_b: Any) -> bool:
    ids, words = _ids(), torch.ones(2, LENGTH, dtype=torch.long)
    words[1, -2:] = 0
    padded = [_run(model, ids, attention_mask=words)[words > 0] for model in (model_a, model_b)]
    return _same(_run(model_a, ids), _run(model_b, ids)) and _same(*padded)


def _holds(trial: Callable[[Any], bool], model: Any) -> bool:
    """Does a trial succeed? What a model cannot even be asked does not hold."""
    try:
        return trial(model)
    except FOREIGN:
        return False


def _is_causal(model: Any) -> bool:
    ids = _ids()
    changed = torch.cat((ids[:, :-1], (ids[:, -1:] - 3) % VOCABULARY), 1)
    before, after = _run(model, ids), _run(model, changed)
    return _same(before[:, :-1], after[:, :-1]) and not _same(before[:, -1], after[:, -1])


def _counts_after_padding(model: Any) -> bool:
    padding, ids = getattr(model.config, "pad_token_id", None), _ids()
    if padding is None or "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    plain, places = _run(model, ids), torch.arange(LENGTH)[None]
    shifted = _run(model, ids, position_ids=places + padding + 1)
    return _same(plain, shifted) and not _same(plain, _run(model, ids, position_ids=places))


def _goes_on(model: Any) -> bool:
    """Does it give the same word by word, from keys and values kept?"""
    from compose_vlp.components.encoders.transformers_cache import borrowed

    ids, kept = _ids(), Cache()
    steps = []
    for begin, end in ((0, 3), (3, 4), (4, LENGTH)):
        cache = borrowed(kept, model.config.num_hidden_layers)
        steps.append(_run(model, ids[:, begin:end], past_key_values=cache, use_cache=True))
        kept.advance(end - begin)
    return _same(torch.cat(steps, 1), _run(model, ids))


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, atol=1e-5, rtol=1e-4)


def _line(error: BaseException) -> str:
    return f"{str(error).strip().splitlines()[0][:200]}" if str(error).strip() else type(error).__name__
