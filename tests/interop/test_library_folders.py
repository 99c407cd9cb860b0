"""A model in a folder that another library loads as its users do: the same ids, pictures, scores and captions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from compose_vlp.compiler.model import build
from compose_vlp.errors import UserError
from compose_vlp.interop import open_clip_clip, transformers_clip
from compose_vlp.interop.export import FORMATS
from compose_vlp.interop.formats import FILES, LIBRARIES
from compose_vlp.interop.libraries.export import LibraryFolder, export_folder
from compose_vlp.interop.weights import weights_of
from compose_vlp.runtime.inference.outputs import Asker
from tests.models import TINY, tiny
from tests.support import assert_near

SMALL = (
    "inputs.image.size=32",
    "components.vision.patch=8",
    "components.*.depth=2",
    "components.*.heads=4",
)
CLIP = (*SMALL, "components.*.width=32", "components.*.out=24")
COCA = (
    *SMALL,
    "components.vision.width=48",
    "components.*.out=32",
    "components.unimodal.width=32",
    "components.pool.width=32",
    "components.pool.queries=5",
)
LEARNT = "components.clip={use: bpe, vocab_size: 400}"
OPEN_CLIP_COCA = "coca_openclip_vit_b_32"
LEVEL = 0.02
"""About one of a picture's 256 levels at each pixel: transformers resizes tensors, and we pictures of Pillow's."""
TEXTS = ['A red circle, "left" of the [SEP] blue (square)!', "two   green triangles...", "xyz! 7"]


@cache
def pictures() -> list[Image.Image]:
    draws = np.random.default_rng(0)
    return [Image.fromarray(draws.integers(0, 255, (40, 60, 3)).astype("uint8")) for _ in TEXTS]


def lively(*names: str, overrides: Sequence[str] = (), **sizes: Any) -> Asker:
    """A model whose outputs differ from picture to picture and from text to text."""
    asker = tiny(*names, overrides=overrides, **sizes)
    torch.manual_seed(1)
    model = build(asker.blueprint, "cpu", 1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3) if parameter.ndim > 1 else parameter.normal_(std=0.3)
    return Asker(asker.blueprint, model, asker.tokenizers, asker.device)


def embeddings(asker: Asker) -> tuple[Any, Any, Tensor, Tensor]:
    """Pictures and texts as the model reads them, and its embeddings of them."""
    image, text = (
        asker.batch("image_embedding", {"image": pictures()}),
        asker.batch("text_embedding", {"caption": TEXTS}),
    )
    assert image is not None and text is not None
    actual = asker.value_of_batch("image_embedding", image), asker.value_of_batch("text_embedding", text)
    return image["image"], text["caption"], *actual


def assert_same_words(expected: Tensor, ours: Any) -> None:
    for row, own, length in zip(expected.tolist(), ours.ids.tolist(), ours.lengths.tolist(), strict=True):
        assert row[:length] == own[:length]


def exported(asker: Asker, folder: Path, library: str) -> LibraryFolder:
    return export_folder(asker, folder / "release", library)


def test_a_pretrained_blip_is_a_captioner_and_a_matcher_of_transformers(tmp_path: Path) -> None:
    from transformers import BlipForConditionalGeneration, BlipForImageTextRetrieval, BlipProcessor

    asker = tiny("tiny/blip")
    written = exported(asker, tmp_path, "transformers")
    assert written.classes == ("BlipForConditionalGeneration", "BlipForImageTextRetrieval")
    assert "inputs.caption.words is not in the folder" in written.remarks[0]
    processor = BlipProcessor.from_pretrained(written.folder)
    given = processor(images=pictures(), text=TEXTS, return_tensors="pt", padding=True)
    batch = asker.batch("match", {"image": pictures(), "caption": TEXTS})
    assert batch is not None
    assert_same_words(given["input_ids"], batch["caption"])
    assert_near(given["pixel_values"], batch["image"].pixels, LEVEL)
    pixels, mask = batch["image"].pixels, given["attention_mask"]
    matcher = BlipForImageTextRetrieval.from_pretrained(written.folder)
    begun = given["input_ids"].clone()
    begun[:, 0] = processor.tokenizer.convert_tokens_to_ids("[ENC]")
    with torch.no_grad():
        scores = matcher(input_ids=begun, attention_mask=mask, pixel_values=pixels).itm_score
        cosines = matcher(
            input_ids=given["input_ids"], attention_mask=mask, pixel_values=pixels, use_itm_head=False
        ).itm_score
    assert_near(asker.value_of_batch("match", batch), scores.softmax(-1), 1e-5)
    *_, images, texts = embeddings(asker)
    assert_near(images @ texts.T, cosines, 1e-5)

    captioner = BlipForConditionalGeneration.from_pretrained(written.folder)
    assert captioner.generation_config.num_beams == 3 and captioner.generation_config.max_length == 28
    for how in ({"num_beams": 1}, {"num_beams": 3, "length_penalty": 0.0}):
        expected = captioner.generate(pixel_values=pixels, max_length=28, **how)
        ours = {"beams": how["num_beams"], **{key: how[key] for key in how if key != "num_beams"}}
        captions = processor.batch_decode(expected[:, 1:], skip_special_tokens=True)
        own = asker.ids_of_batch("caption", {"image": batch["image"]}, **ours)
        assert [asker.tokenizers["bert"].decode(row) for row in expected[:, 1:].tolist()] == [
            asker.tokenizers["bert"].decode(row) for row in own[:, 1:].tolist()
        ]
        assert len(set(captions)) > 1


@pytest.mark.parametrize("more", [(), (LEARNT.replace("400", "400, end: </a>, tokens: [</a>]"),)], ids=["clip", "bpe"])
def test_a_clip_is_transformers(tmp_path: Path, more: tuple[str, ...]) -> None:
    from transformers import CLIPModel, CLIPProcessor

    asker = lively("clip", small=CLIP, overrides=more)
    written = exported(asker, tmp_path, "transformers")
    assert written.classes == ("CLIPModel",)
    processor = CLIPProcessor.from_pretrained(written.folder)
    given = processor(images=pictures(), text=TEXTS, return_tensors="pt", padding=True)
    image, text, images, texts = embeddings(asker)
    assert_same_words(given["input_ids"], text)
    assert_near(given["pixel_values"], image.pixels, LEVEL)
    with torch.no_grad():
        actual = CLIPModel.from_pretrained(written.folder)(**{**given, "pixel_values": image.pixels})
    assert_near(images, actual.image_embeds, 1e-5)
    assert_near(texts, actual.text_embeds, 1e-5)


@pytest.mark.parametrize(
    ("name", "small", "overrides", "of_class"),
    [
        ("clip", CLIP, ["components.text.mlp_width=72", "inputs.image.resize=pad"], "CLIP"),
        ("clip", CLIP, [LEARNT, "components.*.activation=gelu", "inputs.image.resize=stretch"], "CLIP"),
        (OPEN_CLIP_COCA, COCA, ["components.vision.embedding_norm=false"], "CoCa"),
        (OPEN_CLIP_COCA, COCA, [LEARNT], "CoCa"),
    ],
)
def test_open_clip_loads_a_folder(
    tmp_path: Path, name: str, small: Sequence[str], overrides: list[str], of_class: str
) -> None:
    open_clip = pytest.importorskip("open_clip")
    asker = lively(name, small=small, overrides=overrides)
    written = exported(asker, tmp_path, "open_clip")
    assert written.classes == (of_class,)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{written.folder}")
    ids = open_clip.get_tokenizer(f"local-dir:{written.folder}")(TEXTS)
    image, text, images, texts = embeddings(asker)
    assert_same_words(ids, text)
    assert torch.equal(torch.stack([preprocess(picture) for picture in pictures()]), image.pixels)
    with torch.no_grad():
        assert_near(images, model.eval().encode_image(image.pixels, normalize=True), 1e-5)
        assert_near(texts, model.encode_text(ids, normalize=True), 1e-5)


@pytest.mark.parametrize("form", [open_clip_clip, transformers_clip])
def test_a_clip_goes_there_and_comes_back(form: Any) -> None:
    state = weights_of(lively("clip", small=CLIP).model)
    back = form.import_state(form.export_state(state))
    assert back.keys() == state.keys() and all(torch.equal(back[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("line", "small", "library", "difference"),
    [
        ("tiny/blip", (), "transformers", "components.vision.stem is convolution, where it has patch"),
        ("tiny/coca", (), "open_clip", "components.vision.cls is none, where it has first"),
        ("clip outputs.text_embedding=t", CLIP, "open_clip", "outputs.text_embedding is text(text), where it has "),
        ("clip ~outputs.text_embedding", CLIP, "transformers", "it has no output `text_embedding`"),
        ("clip inputs.image.resize=pad", CLIP, "transformers", "inputs.image.resize is pad, where its processor"),
        ("clip inputs.image.interpolation=lanczos", CLIP, "transformers", "inputs.image.interpolation is lanczos"),
        ("clip inputs.image.interpolation=nearest", CLIP, "open_clip", "inputs.image.interpolation is nearest"),
        ("clip inputs.image.resize=pad inputs.image.ground=[1,2,3]", CLIP, "open_clip", "inputs.image.ground is [1, 2"),
        (f"clip {LEARNT}", CLIP, "transformers", "inputs.caption ends with the id 2"),
        ("clip inputs.caption.end=false", CLIP, "transformers", "inputs.caption has no end token"),
        ("clip inputs.caption.end=false", CLIP, "open_clip", "inputs.caption has no end token"),
        ("clip components.text.activation=gelu", CLIP, "open_clip", "components.text.activation is gelu, where it has"),
        (f"{OPEN_CLIP_COCA} components.multimodal.mlp_width=64", COCA, "open_clip", "is 2 widths, where it has 4"),
        (f"{OPEN_CLIP_COCA} components.text_proj.bias=true", COCA, "open_clip", "components.text_proj.bias is true"),
        ("tiny/blip components.lm_head.norm_eps=1e-3", TINY, "transformers", "components.lm_head.norm_eps and comp"),
        ("tiny/blip components.lm_head.share={}", TINY, "transformers", "lm_head has a table of words of its own"),
    ],
)  # fmt: skip
def test_a_model_of_another_shape_is_told_in_what_it_departs(
    tmp_path: Path, line: str, small: Sequence[str], library: str, difference: str
) -> None:
    name, *change = line.split(maxsplit=1) if LEARNT in line else line.split()
    asker = tiny(name, small=small, overrides=change)
    if "lm_head" in line:  # what is left is the captioner
        asker = tiny(name, small=small, overrides=[*change, "~outputs.match"])
    with pytest.raises(UserError, match=f"has not the shape of .* in {library}") as caught:
        exported(asker, tmp_path, library)
    hints = caught.value.problems[0].hints
    assert any(difference in hint for hint in hints), hints
    assert "it can be exported as safetensors, onnx" in hints[-1] and not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is there, and not empty"):
        exported(lively("clip", small=CLIP), tmp_path, "transformers")


def test_the_names_of_formats_are_those_that_there_are() -> None:
    assert tuple(FORMATS) == FILES and LIBRARIES == ("open_clip", "transformers")
