"""transformers' BLIP in BLIP's pretraining step: its towers in the places of ours.

The library has the classes of fine-tuned BLIP, and no pretraining. What it would be pretrained with is built of them
here: the picture tower and text encoder of `BlipForImageTextRetrieval`, the decoder and its head of
`BlipForConditionalGeneration`, sharing all but self-attention as the paper does, in the authors' order of calls; their
moving averages as teachers. Projections, the head for pairs, queue, negatives and losses are ours, whose part is small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.official_order import Candidate, link
from compose_vlp.compiler.model import Model
from compose_vlp.compiler.source import Program
from compose_vlp.compiler.teachers import Teacher
from compose_vlp.interop import transformers_blip as names
from compose_vlp.interop.weights import weights_of
from compose_vlp.values import Image, Logits, Part, Sequence, Text

TOWERS = ("vision", "text", "decoder", "lm_head")
CAPTIONS: names.ModelClass = "BlipForConditionalGeneration"
MATCHES: names.ModelClass = "BlipForImageTextRetrieval"


class Vision(nn.Module):
    """The library's picture tower as a component."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Image) -> Sequence:
        features: Tensor = self.model(image.pixels).last_hidden_state
        return Sequence(features, (Part("vision", 0, features.shape[1], "first"),))


class Words(nn.Module):
    """The library's text encoder, or its decoder, as a component."""

    def __init__(self, model: nn.Module, *, causal: bool) -> None:
        super().__init__()
        self.model, self.causal = model, causal

    def forward(self, x: Text, context: Sequence | None = None) -> Sequence:
        looked_at = None if context is None else context.features
        features = self.model(
            x.ids,
            attention_mask=x.valid.long(),
            encoder_hidden_states=looked_at,
            is_decoder=self.causal,
            use_cache=False,
        ).last_hidden_state
        return Sequence(
            features, (Part("language", 0, x.ids.shape[1], "none" if self.causal else "first", x),), x.valid
        )


class Scores(nn.Module):
    """The library's head over the vocabulary as a component."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Sequence) -> Logits:
        return Logits(self.model(x.features), x.parts[0].text)


class LibraryCandidate(Candidate):
    """BLIP with the library's towers; weights and gradients are told under our names."""

    def __init__(self, model: Model, program: Program, *, plain: bool, to_frame: bool) -> None:
        kept = {name for name, _ in model.named_parameters()}
        self.captions, self.matches = swap(model, weights_of(model))
        link(model)
        super().__init__(model, program, plain=plain, to_frame=to_frame)
        self.ours = kept

    def named(self, read: Callable[[nn.Parameter], Tensor | None]) -> dict[str, Tensor]:
        own = {name: tensor for name, tensor in super().named(read).items() if name in self.ours}
        imported = {**self._imported(self.captions, read), **self._imported(self.matches, read)}
        towers = {f"components.{name}": tensor for name, tensor in imported.items() if name.split(".")[0] in TOWERS}
        return {**own, **{name: tensor for name, tensor in towers.items() if name in self.ours}}

    def _imported(self, model: nn.Module, read: Callable[[nn.Parameter], Tensor | None]) -> dict[str, Tensor]:
        """Under our names; what there is none of (heads of the library that nobody calls) counts as 0."""
        parameters = model.named_parameters(remove_duplicate=False)
        tensors = {name: torch.zeros_like(p) if (t := read(p)) is None else t.clone() for name, p in parameters}
        return names.import_state(tensors)


def swap(model: Model, weights: dict[str, Tensor]) -> tuple[nn.Module, nn.Module]:
    """Put the library's towers in place of ours, teachers' too; gives the two models of the student."""
    captions, matches = made(model, weights)
    put(model.components, captions, matches)
    for teacher in model.teachers.children():
        assert isinstance(teacher, Teacher)
        put(teacher, *made(model, weights))
        for parameter in teacher.parameters():
            parameter.requires_grad_(False)
    return captions, matches


def put(into: nn.Module, captions: Any, matches: Any) -> None:
    """The components that are there, and no others."""
    towers = {
        "vision": Vision(matches.vision_model),
        "text": Words(matches.text_encoder, causal=False),
        "decoder": Words(captions.text_decoder.bert, causal=True),
        "lm_head": Scores(captions.text_decoder.cls),
    }
    for name, tower in towers.items():
        if name in dict(into.named_children()):
            into._modules[name] = tower  # noqa: SLF001 (components may be called like attributes of a module)


def made(model: Model, weights: dict[str, Tensor]) -> tuple[Any, Any]:
    """The library's captioner and matcher with our weights, sharing all but self-attention of the text towers."""
    import transformers

    config = config_of(model, weights)
    captions, matches = (getattr(transformers, name)(config).train() for name in (CAPTIONS, MATCHES))
    for library, name in ((captions, CAPTIONS), (matches, MATCHES)):
        library.load_state_dict(names.export_state(weights, name), strict=True)
    decoder, encoder = captions.text_decoder.bert, matches.text_encoder
    captions.vision_model, decoder.embeddings = matches.vision_model, encoder.embeddings
    captions.text_decoder.cls.predictions.decoder.weight = encoder.embeddings.word_embeddings.weight
    for mine, shared in zip(decoder.encoder.layer, encoder.encoder.layer, strict=True):
        mine.crossattention, mine.intermediate, mine.output = shared.crossattention, shared.intermediate, shared.output
    return captions, matches


def config_of(model: Model, weights: dict[str, Tensor]) -> Any:
    """The library's settings for towers of our size, without noise."""
    import transformers

    vision, text = model.student.vision.config, model.student.text.config
    words = weights["text.embedding.weight"].shape[0]
    sizes = {
        name: {
            "hidden_size": part.width, "intermediate_size": part.mlp_width or 4 * part.width,
            "num_hidden_layers": part.depth, "num_attention_heads": part.heads, "layer_norm_eps": part.norm_eps,
        }
        for name, part in (("vision", vision), ("text", text))
    }  # fmt: skip
    rest = {
        "encoder_hidden_size": vision.width, "vocab_size": words, "max_position_embeddings": text.length,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "bos_token_id": words - 2, "sep_token_id": 2,
    }  # fmt: skip
    return transformers.BlipConfig(
        vision_config={**sizes["vision"], "image_size": vision.size, "patch_size": vision.patch},
        text_config={**sizes["text"], **rest},
        image_text_hidden_size=weights["image_proj.map.weight"].shape[0],
    )
