"""A trained model's outputs as ONNX files: pictures and token ids go in, embeddings, scores and logits come out."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from compose_vlp.blueprint.inputs import ImageInput, Input, TextInput
from compose_vlp.compiler.compile import compile_plan
from compose_vlp.compiler.model import Step
from compose_vlp.errors import UserError
from compose_vlp.graph.asked import is_table
from compose_vlp.interop.new_folder import new_folder
from compose_vlp.readable import storage
from compose_vlp.runtime.inference.outputs import Asker, tensor_of
from compose_vlp.runtime.modes import evaluating
from compose_vlp.values import Image, Text

PACKAGES: Final = ("onnx", "onnxscript")
FORMS: Final = ("value", "generate")
"""Forms of outputs that one call of the model gives: what is generated is asked word by word, and is the logits."""
ROWS: Final = 3
"""Rows of the batch that a model is looked at with; the files take any number of them."""
INPUTS: Final = "compose_vlp.inputs"
"""The name under which a file tells how its inputs are made."""


@dataclass(frozen=True)
class OnnxFile:
    """One file: the output that it computes, its size on disk, and the shapes of what goes in and comes out."""

    file: str
    output: str
    bytes: int
    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]

    def __str__(self) -> str:
        given, results = (
            ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in shapes.items())
            for shapes in (self.inputs, self.outputs)
        )
        return f"{given} → {results}; {storage(self.bytes)}"


@dataclass(frozen=True)
class OnnxFolder:
    """The result of an export: the files, and of each output without one why it has none."""

    folder: str
    files: tuple[OnnxFile, ...]
    left_out: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def facts(self) -> list[tuple[str, str]]:
        """List the files for a card."""
        return [(Path(entry.file).name, str(entry)) for entry in self.files]

    def lines(self) -> list[str]:
        """Tell what was written, and what was not."""
        written = [f"{entry.file}: {entry}" for entry in self.files]
        return [*written, *(f"left out: {name}: {reason}" for name, reason in self.left_out.items())]


class CannotBeExportedError(Exception):
    """Why an output has no file."""


def export_onnx(asker: Asker, folder: Path) -> OnnxFolder:
    """Write a file for every output that one call of the model gives, and the tokenizers, into a new folder.

    Batches may be of any size. Pictures are `NAME_pixels` [batch, 3, side, side], as the input's settings make them;
    texts are `NAME_ids` [batch, max_length], padded, and `NAME_lengths` [batch].

    Raises:
        UserError: the packages are missing, the folder is there and not empty, it cannot be written, or no output can
            be exported.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"`--as onnx` needs the package{'s' * (len(missing) > 1)} {' and '.join(missing)}, which "
            f"{'are' if len(missing) > 1 else 'is'} not installed",
            hints=("pip install 'compose-vlp[onnx]'",),
        )
    with new_folder(folder, "onnx") as inside:
        return _write(asker, inside, folder)


def _write(asker: Asker, inside: Path, folder: Path) -> OnnxFolder:
    files, left_out = list[OnnxFile](), dict[str, str]()
    for output in asker.blueprint.outputs:
        try:
            program = onnx_program(asker, output)
        except CannotBeExportedError as reason:
            left_out[output] = str(reason)
            continue
        path = inside / f"{output}.onnx"
        program.save(path)  # above 2 GB the weights go into a file beside it
        size = sum(part.stat().st_size for part in inside.glob(f"{path.name}*"))
        graph = program.model.graph
        files.append(OnnxFile(str(folder / path.name), output, size, _shapes(graph.inputs), _shapes(graph.outputs)))
    if not files:
        hints = [f"{name}: {reason}" for name, reason in left_out.items()] or ["it has no outputs"]
        raise UserError(f"{asker.blueprint.name} has no output that an ONNX file can compute", hints=hints)
    for name, tokenizer in asker.tokenizers.items():
        tokenizer.save(inside / "tokenizers" / name)
    return OnnxFolder(str(folder), tuple(files), left_out)


def _shapes(values: Iterable[Any]) -> dict[str, list[int | str]]:
    """Give the shapes of a graph's values by name, sizes that are free as words."""
    return {value.name: [size if isinstance(size, int) else str(size) for size in value.shape] for value in values}


def onnx_program(asker: Asker, output: str) -> torch.onnx.ONNXProgram:
    """Export one output, for batches of any size.

    Raises:
        CannotBeExportedError: it is asked by more than one call of the model, reads what is no picture and no text of a
            record, or a component does what torch cannot follow.
    """
    module = Tensors(asker, output)
    example = module.example()
    sizes = ({name: {part: {0: torch.export.Dim("batch")} for part in tensors} for name, tensors in example.items()},)
    names = ({name: {part: {0: "batch"} for part in tensors} for name, tensors in example.items()},)
    try:
        with torch.no_grad(), evaluating(asker.model), _quiet():
            exported = torch.export.export(module, (example,), dynamic_shapes=sizes)
            program = torch.onnx.export(
                exported,
                dynamo=True,
                verbose=False,
                dynamic_shapes=names,
                input_names=[f"{name}_{part}" for name, tensors in example.items() for part in tensors],
                output_names=[output],
            )
    except RuntimeError as error:  # whatever torch's two exporters cannot follow is one
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise CannotBeExportedError(f"torch cannot export it: {lines[0]}") from error
    assert program is not None, "no file was named, so that the program is given"
    tables = {
        f"{name}_{part}": how
        for name in example
        for part, how in how_made(asker, name).items()
        if part in example[name]
    }
    program.model.metadata_props[INPUTS] = json.dumps(tables)
    return program


class Tensors(nn.Module):
    """An output as a function of tensors: `{"image": {"pixels"}, "caption": {"ids", "lengths"}}`."""

    def __init__(self, asker: Asker, output: str) -> None:
        super().__init__()
        entry = asker.blueprint.outputs[output]
        if entry.form not in FORMS:
            raise CannotBeExportedError(f"a `{entry.form}` output takes more than one call of the model")
        compiled = compile_plan(asker.blueprint, "exported", {output: entry.ref}, trainable=lambda _: False)
        names = dict.fromkeys(call.target for call in compiled.plan.calls if call.role == "input")
        self.inputs = {name: _taken(name, asker.blueprint.inputs[name]) for name in names}
        self.model, self.program, self.output = asker.model, compiled.run, output
        texts = {name: made for name, made in self.inputs.items() if isinstance(made, TextInput)}
        self.pads = {name: asker.tokenizers[made.tokenizer].pad_id or 0 for name, made in texts.items()}
        self.step = Step(asker.blueprint.constants_and_starts())

    def forward(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        batch: dict[str, Any] = {}
        for name, made in self.inputs.items():
            parts = tensors[name]
            if isinstance(made, ImageInput):
                batch[name] = Image(parts["pixels"])
            else:
                batch[name] = Text(parts["ids"], parts["lengths"], made.max_length, self.pads[name])
        return tensor_of(self.model(self.program, batch, self.step)[self.output])

    def example(self) -> dict[str, dict[str, Tensor]]:
        """A batch of the right shapes: a grey picture, a text of padding that is two tokens long."""
        return {
            name: {"pixels": torch.zeros(ROWS, 3, made.size, made.size)}
            if isinstance(made, ImageInput)
            else {
                "ids": torch.full((ROWS, made.max_length), self.pads[name]),
                "lengths": torch.full((ROWS,), 2),
            }
            for name, made in self.inputs.items()
        }


def how_made(asker: Asker, name: str) -> dict[str, dict[str, Any]]:
    """Tell by tensor how an input is made: a picture's size, mean and the like; a text's tokenizer and its tokens."""
    made = asker.blueprint.inputs[name]
    if isinstance(made, ImageInput):
        return {"pixels": made.model_dump(include={"size", "mean", "std", "resize", "interpolation", "ground"})}
    assert isinstance(made, TextInput), "other inputs are refused"
    tokenizer = asker.tokenizers[made.tokenizer]
    tokens = {"begin": tokenizer.begin_id, "end": tokenizer.end_id if made.end else None, "pad": tokenizer.pad_id}
    settings = made.model_dump(include={"max_length", "clean", "words"}, exclude_none=True)
    return {"ids": {"tokenizer": f"tokenizers/{made.tokenizer}", **settings, **tokens}}


def _taken(name: str, made: Input) -> ImageInput | TextInput:
    if isinstance(made, ImageInput):
        return made
    if isinstance(made, TextInput) and not made.many and not is_table(made):
        return made
    raise CannotBeExportedError(f"it reads {name!r}, which is no picture and no one text of a record")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to themselves what the exporters tell of their own ways."""
    logs = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [log.level for log in logs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for log in logs:
            log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)
