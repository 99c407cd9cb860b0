"""ONNX files compute what the model's own programs do, in batches of other sizes; what has none is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from compose_vlp.compiler.compile import compile_plan
from compose_vlp.errors import UserError
from compose_vlp.interop import onnx_files
from compose_vlp.interop.onnx_files import INPUTS, OnnxFolder, export_onnx
from compose_vlp.runtime.inference.outputs import Asker
from tests.models import TINY, tiny
from tests.support import assert_near

WITHIN = 1e-4
"""Of the norm: two libraries' kernels in float32."""
PICTURES = [np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8) for seed in range(5)]
TEXTS = ["a red circle", "two blue stars over a small green square", "red", "a green square", "the blue star"]
SHALLOW = ("components.text.depth=1", "components.fusion.depth=1", "components.vision.depth=1")
COCA = (
    "inputs.image.size=16",
    "components.vision.patch=8",
    "components.vision.stem=patch",
    "components.vision.stem_depth=0",
    "components.*.width=32",
    "components.*.mlp_width=48",
    "components.*.depth=1",
    "components.pool_many.queries=5",
    "components.bpe.vocab_size=300",
)
ALBEF = "tiny/albef", (*TINY, *SHALLOW)


def session(file: Path) -> Any:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def answers(file: Path, given: Mapping[str, Tensor]) -> Tensor:
    (answer,) = session(file).run(None, {name: tensor.numpy() for name, tensor in given.items()})
    return torch.from_numpy(answer)


def given_of(asker: Asker, folder: Path, file: Path, texts: Sequence[str] = TEXTS) -> dict[str, Tensor]:
    """What goes into a file, made of what it tells and of the folder's tokenizer alone; pixels as our collator does."""
    notes = json.loads(session(file).get_modelmeta().custom_metadata_map[INPUTS])
    given = dict[str, Tensor]()
    if "image_pixels" in notes:
        batch = asker.batch("image_embedding", {"image": PICTURES[: len(texts)]})
        assert batch is not None
        given["image_pixels"] = batch["image"].pixels
    if "caption_ids" in notes:
        how = notes["caption_ids"]
        tokenizer = Tokenizer.from_file(str(folder / how["tokenizer"] / "tokenizer.json"))
        words = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        end = [] if how["end"] is None else [how["end"]]
        rows = [[how["begin"], *ids, *end] for ids in words]
        given["caption_ids"] = torch.tensor([row + [how["pad"]] * (how["max_length"] - len(row)) for row in rows])
        given["caption_lengths"] = torch.tensor([len(row) for row in rows])
    return given


@pytest.fixture(scope="module", params=[ALBEF, ("tiny/coca", COCA)], ids=["ALBEF", "CoCa"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Asker, OnnxFolder]:
    for package in onnx_files.PACKAGES:
        pytest.importorskip(package, reason=f"{package} is not installed")
    name, small = request.param
    asker = tiny(name, small=small, seed=3)
    return asker, export_onnx(asker, tmp_path_factory.mktemp("onnx") / name.replace("/", "_"))


@pytest.mark.slow
def test_files_compute_the_model_s_outputs_in_batches_of_any_size(exported: tuple[Asker, OnnxFolder]) -> None:
    asker, written = exported
    assert [entry.output for entry in written.files] == list(asker.blueprint.outputs) and not written.left_out
    for entry in written.files:
        file = Path(entry.file)
        given = given_of(asker, Path(written.folder), file)
        assert {name: ["batch", *tensor.shape[1:]] for name, tensor in given.items()} == entry.inputs
        whole, first = answers(file, given), answers(file, {name: tensor[:1] for name, tensor in given.items()})
        assert_near(first, whole[:1], WITHIN, what=f"{entry.output}, one row")
        if asker.blueprint.outputs[entry.output].form == "value":
            fields: dict[str, Sequence[Any]] = {"image": PICTURES, "caption": TEXTS}
            own = asker.value(entry.output, {name: fields[name] for name in asker.fields_read(entry.output)})
            assert_near(whole, own, WITHIN, what=entry.output)
        else:
            own, valid = logits(asker, entry.output)
            assert_near(whole[:, : own.shape[1]][valid], own[valid], WITHIN, what=entry.output)


@torch.no_grad()
def logits(asker: Asker, output: str) -> tuple[Tensor, Tensor]:
    """Our own scores of the words, of a batch that is trimmed to its longest text, and where words stand."""
    collator = asker.collator(["image", "caption"])
    records = [{"image": picture, "caption": text} for picture, text in zip(PICTURES, TEXTS, strict=True)]
    batch = collator.stack([collator.read(record) for record in records])
    program = compile_plan(asker.blueprint, "logits", {output: asker.blueprint.outputs[output].ref})
    return asker.model(program.run, batch)[output].scores, batch["caption"].valid


def test_an_output_that_a_file_cannot_compute_is_left_out_and_told(tmp_path: Path) -> None:
    for package in onnx_files.PACKAGES:
        pytest.importorskip(package, reason=f"{package} is not installed")
    where = "+outputs.where={relevance: matched, to: v, through: fusion, layer: 0}"
    asker = tiny(ALBEF[0], small=ALBEF[1], overrides=["~outputs.match", "~outputs.text_embedding", where])
    written = export_onnx(asker, tmp_path / "files")
    assert [entry.output for entry in written.files] == ["image_embedding"]
    assert written.left_out == {"where": "a `relevance` output takes more than one call of the model"}
    assert "left out: where: " in written.lines()[-1]


def test_a_model_of_which_nothing_can_be_exported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_files, "PACKAGES", ())
    asker = tiny(*ALBEF[:1], small=ALBEF[1], overrides=["~outputs.match", "~outputs.text_embedding"])
    asker.model.components.image_proj.register_forward_pre_hook(looks_at_numbers)
    with pytest.raises(UserError, match="has no output that an ONNX file can compute") as caught:
        export_onnx(asker, tmp_path / "files")
    assert caught.value.problems[0].hints[0].startswith("image_embedding: torch cannot export it: ")
    assert not list(tmp_path.iterdir())


def looks_at_numbers(module: nn.Module, arguments: Any) -> None:
    """What no exporter can follow."""
    if float(arguments[0].features.sum()) > 0:
        arguments[0].features.neg_()


def test_without_the_packages_the_line_that_installs_them_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_files, "PACKAGES", ("onnx_of_nowhere", "json"))
    with pytest.raises(UserError, match="needs the package onnx_of_nowhere, which is not installed") as caught:
        export_onnx(tiny(ALBEF[0], small=ALBEF[1]), tmp_path / "files")
    assert caught.value.problems[0].hints == ("pip install 'compose-vlp[onnx]'",)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_files, "PACKAGES", ())
    (tmp_path / "file").write_text("mine")
    for path, says in ((tmp_path, "is there, and not empty"), (tmp_path / "file", "is a file")):
        with pytest.raises(UserError, match=says):
            export_onnx(tiny(ALBEF[0], small=ALBEF[1]), path)
    with pytest.raises(UserError, match="cannot be written"):
        export_onnx(tiny(ALBEF[0], small=ALBEF[1]), tmp_path / "file" / "files")
    assert (tmp_path / "file").read_text() == "mine"
