"""`compose-vlp generate`: what a trained model writes of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Device, Json, Plugins, Run, Seed, load_run, print_note
from compose_vlp.errors import UserError

if TYPE_CHECKING:
    from compose_vlp.run import Run as LoadedRun

EXAMPLES = (
    ("a caption for a picture", "compose-vlp generate runs/coca_tiny-1 cat.jpg"),
    ("for all pictures of a folder, with beams", "compose-vlp generate runs/coca_tiny-1 photos/ --beams 3"),
    ("drawn at random from the likeliest words", "compose-vlp generate runs/coca_tiny-1 cat.jpg --top-p 0.9 --seed 1"),
    (
        "an answer, where the output also reads a question",
        "compose-vlp generate runs/vqa-1 cat.jpg --with 'question=what is it?'",
    ),
)
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
BATCH = 16
WRITE = ("generate", "rank")
"""The forms of outputs whose answers are texts."""


def command(
    run: Run,
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURE...", help="Picture files, or folders of them.", show_default=False)
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="NAME", help="Which output; the one that writes texts if left out."),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="FIELD=TEXT",
            help="What the output reads besides the picture; given several times for a table, texts in its place.",
        ),
    ] = None,
    beams: Annotated[int | None, typer.Option("--beams", min=1, help="Texts kept at every step; 1 is greedy.")] = None,
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", min=0, max=1, help="Draw from the likeliest words of so much probability."),
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Draw from so many likeliest words.")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Divide logits by this before drawing.")
    ] = None,
    max_length: Annotated[int | None, typer.Option("--max-length", min=2, help="Tokens at most.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write captions for pictures with a trained model.

    How the words are searched is the blueprint's, unless an option says otherwise. Prints a line for each picture.
    """
    files = list(picture_files(pictures))
    trained = load_run(run, plugins, device)
    name = output or only_writer(trained)
    options: dict[str, Any] = {
        "beams": beams,
        "top_p": top_p,
        "top_k": top_k,
        "temperature": temperature,
        "max_length": max_length,
    }
    settings = {key: value for key, value in options.items() if value is not None}
    texts = _write(trained, name, files, read_extra(extra or ()), seed, settings)
    if as_json:
        print_json([{"picture": str(file), name: text} for file, text in zip(files, texts, strict=True)])
        return
    print_note(f"these weights are {trained.weights}")
    for file, text in zip(files, texts, strict=True):
        line = Text.assemble((f"{file}: ", "dim"), text) if len(files) > 1 else Text(text)
        out().print(line, soft_wrap=True)


def _write(
    run: LoadedRun, name: str, files: Sequence[Path], extra: dict[str, list[str]], seed: int, settings: dict[str, Any]
) -> list[str]:
    entry = run.outputs.get(name)
    if entry is None:
        raise UserError(f"the run has no output {name!r}", hints=(f"outputs: {', '.join(run.outputs)}",))
    if run.blueprint.outputs[name].form not in WRITE:
        raise UserError(f"output {name!r} is a value, and no text: `compose_vlp.load(RUN).{name}(...)` gives it")
    types = run.asker.types_read(name)
    images = [field for field, kind in types.items() if kind == "image"]
    if len(images) != 1:
        raise UserError(f"output {name!r} reads {len(images)} pictures; this command gives one")
    single = next((key for key, values in extra.items() if key in types and len(values) > 1), None)
    if single is not None:
        raise UserError(f"`--with {single}=...` is given {len(extra[single])} times; only a table takes several")
    texts: list[str] = []
    for at in range(0, len(files), BATCH):
        batch = list(files[at : at + BATCH])
        given = {key: values * len(batch) if key in types else values for key, values in extra.items()}
        texts += entry(seed=seed, **{images[0]: batch}, **given, **settings)
    return texts


def picture_files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files; of a folder, its pictures in order.

    Raises:
        UserError: a path that is not there, or a folder without pictures.
    """
    for path in paths:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
            if not files:
                raise UserError(f"no pictures in {path}", hints=(f"pictures end in {', '.join(sorted(PICTURES))}",))
            yield from files
        elif path.is_file():
            yield path
        else:
            raise UserError(f"no picture {str(path)!r}")


def only_writer(run: LoadedRun) -> str:
    """Find the output that writes texts; where none does, the one that chooses among a table's.

    Raises:
        UserError: none does, or several do.
    """
    outputs = run.blueprint.outputs.items()
    writers = next((names for form in WRITE if (names := [name for name, entry in outputs if entry.form == form])), [])
    if len(writers) != 1:
        which = f"several outputs write texts: {', '.join(writers)}" if writers else "no output writes texts"
        raise UserError(f"{run.blueprint.name}: {which}", hints=("`--output NAME` says which",) if writers else ())
    return writers[0]


def read_extra(words: Sequence[str]) -> dict[str, list[str]]:
    """`question=what is it?` as a field with a text; `classes=cat`, `classes=dog` as a table with two.

    Raises:
        UserError: no `=`.
    """
    pairs: dict[str, list[str]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UserError(f"`--with {word}` is not FIELD=TEXT", hints=("as in --with 'question=what is it?'",))
        pairs.setdefault(name, []).append(text)
    return pairs
