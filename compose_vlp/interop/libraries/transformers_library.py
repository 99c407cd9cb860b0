"""Folders that transformers loads: BLIP's three classes, and `CLIPModel`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from compose_vlp.blueprint.inputs import ImageInput, TextInput
from compose_vlp.interop import transformers_blip, transformers_clip
from compose_vlp.interop.libraries.library import Library, State
from compose_vlp.interop.libraries.pictures import transformers_misfits, transformers_settings
from compose_vlp.interop.libraries.shape import LibraryClass
from compose_vlp.interop.libraries.texts import library_tokenizer
from compose_vlp.interop.libraries.transformers_config import blip_config, clip_config, end_of, input_of, tower_of
from compose_vlp.runtime.inference.outputs import Asker

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

CLIP: Final = LibraryClass(
    "CLIPModel",
    "clip",
    ("image_embedding", "text_embedding"),
    {"vision": frozenset({"norm_eps", "activation"}), "text": frozenset({"norm_eps", "activation"})},
    also=("similarity",),
)
_EPS: Final = {"*": frozenset({"norm_eps"})}
CAPTIONS: Final = LibraryClass("BlipForConditionalGeneration", "blip", ("caption",), _EPS)
MATCHES: Final = LibraryClass("BlipForImageTextRetrieval", "blip", ("image_embedding", "text_embedding", "match"), _EPS)
ANSWERS: Final = LibraryClass("BlipForQuestionAnswering", "blip tasks/blip/vqa", ("answer",), _EPS)
GREATEST: Final = 2
"""An `eos_token_id` that stands for the greatest id of a text in `CLIPModel`, since its first configurations had it."""
TIED: Final = (transformers_blip.HEAD, transformers_blip.HEAD.replace("weight", "bias"))
"""Tensors of a decoder that are others of it, and that the library's own files leave out."""


def problems(of_class: LibraryClass, asker: Asker, state: State) -> list[str]:
    """Tell what of a model of the class's shape the library has no place for."""
    name, made = input_of(asker.blueprint, ImageInput)
    lines = transformers_misfits(name, made)
    if of_class is CLIP:
        return [*lines, *_ends(asker)]
    components, tower = asker.blueprint.components, tower_of(of_class.name)
    head = transformers_blip.HEADS.get(of_class.name)  # type: ignore[call-overload]
    if head is None:
        return lines
    if components[head].config.norm_eps != components[tower].config.norm_eps:
        lines.append(f"components.{head}.norm_eps and components.{tower}.norm_eps differ, where it has one")
    if not torch.equal(state[f"{head}.weight"], state[f"{tower}.embedding.weight"]):
        lines.append(f"{head} has a table of words of its own, where it has that of {tower}")
    return [*lines, *_two_towers(asker)] if of_class is ANSWERS else lines


def _ends(asker: Asker) -> list[str]:
    """Tell where the library would read a text elsewhere than at its end."""
    name, made = input_of(asker.blueprint, TextInput)
    end = end_of(asker, made)
    if end is None:
        return [f"inputs.{name} has no end token, at which it reads a text"]
    if end == GREATEST:
        return [f"inputs.{name} ends with the id {end}, for which it reads a text at its greatest id"]
    return []


def _two_towers(asker: Asker) -> list[str]:
    """Tell in what the towers of questions and of answers differ, for which the library has one configuration."""
    settings = {name: asker.blueprint.components[name].config for name in ("text", "answerer")}
    keys = ("width", "depth", "mlp_width", "norm_eps", "length")
    return [
        f"components.text.{key} and components.answerer.{key} differ, where it has one"
        for key in keys
        if getattr(settings["text"], key) != getattr(settings["answerer"], key)
    ]


def write(classes: Sequence[LibraryClass], asker: Asker, state: State, folder: Path) -> list[str]:
    """Write configuration, weights, processor and how texts are generated; several classes of BLIP share one folder."""
    config = clip_config(asker) if classes[0] is CLIP else blip_config(classes[0].name, asker)
    config.architectures = [of_class.name for of_class in classes]
    config.save_pretrained(folder)
    tensors: dict[str, Tensor] = {}
    for of_class in classes:
        exported = _weights(of_class, state)
        _check(of_class, config, exported)
        tensors |= {name: tensor for name, tensor in exported.items() if name not in TIED}
    content = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(content, folder / "model.safetensors", {"format": "pt"})
    return [*_processor(classes[0], asker, folder), *_generation(classes, asker, folder)]


def _weights(of_class: LibraryClass, state: State) -> dict[str, Tensor]:
    mine = {name: tensor for name, tensor in state.items() if name.split(".")[0] in of_class.components()}
    if of_class is CLIP:
        return transformers_clip.export_state(mine)
    return transformers_blip.export_state(mine, of_class.name)  # type: ignore[arg-type]


def _check(of_class: LibraryClass, config: PreTrainedConfig, exported: Mapping[str, Tensor]) -> None:
    """Hold the tensors to those of the library's own class of this configuration."""
    import transformers

    with torch.device("meta"):
        model = getattr(transformers, of_class.name)(config)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in exported.items()}, f"{of_class.name} has other tensors"


def _processor(of_class: LibraryClass, asker: Asker, folder: Path) -> list[str]:
    from transformers import BlipImageProcessor, BlipProcessor, CLIPImageProcessor, CLIPProcessor

    _, picture = input_of(asker.blueprint, ImageInput)
    name, made = input_of(asker.blueprint, TextInput)
    ours = asker.tokenizers[made.tokenizer]
    clip = of_class is CLIP
    pictures = (CLIPImageProcessor if clip else BlipImageProcessor)(**transformers_settings(picture))
    pad = ours.role("end" if clip else "pad")  # CLIP's own is a word, `!`; what stands after the end is never read
    words = library_tokenizer(ours, made, pad=str(pad))
    if words is None:
        pictures.save_pretrained(folder)
        kind = asker.blueprint.components[made.tokenizer].kind.name
        return [f"the tokenizer is not in the folder: {kind} has no tokenizer.json"]
    (CLIPProcessor if clip else BlipProcessor)(pictures, words).save_pretrained(folder)
    return [f"inputs.{name}.words is not in the folder: texts are cut by tokens alone"] if made.words else []


def _generation(classes: Sequence[LibraryClass], asker: Asker, folder: Path) -> list[str]:
    """Write how the blueprint searches for words, for `generate(..., generation_config=...)`."""
    from transformers import GenerationConfig

    output = next((name for of_class in classes for name in of_class.outputs if name in ("caption", "answer")), None)
    if output is None:
        return []
    search, _ = asker.search(output, {})
    settings: dict[str, Any] = {
        "num_beams": search.beams,
        "max_length": search.max_length,
        "min_length": search.min_length,
        "repetition_penalty": search.repetition_penalty,
        "eos_token_id": search.end,
        "pad_token_id": search.pad,
    }
    if search.beams > 1:
        settings["length_penalty"] = search.length_penalty
    GenerationConfig(do_sample=False, **settings).save_pretrained(folder)
    return []


LIBRARY: Final = Library((CLIP, CAPTIONS, MATCHES, ANSWERS), problems, write)
