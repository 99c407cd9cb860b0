"""A hook of mkdocs that writes the gallery of mistakes: each is made, and the page shows what was really said."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.render import render
from compose_vlp.errors import BlueprintError

INTRODUCTION = """\
# Mistakes, and what they say

Every mistake of a blueprint is found before anything is built, all of them at once, each with its place, what was
expected, and the nearest right thing. The examples below are made anew whenever this page is built, in a file
`mine.yaml`; what stands under each is what `compose-vlp check mine.yaml` prints. [Messages](messages.md) lists
what else may be said, to be looked up by its first words.
"""


@dataclass(frozen=True)
class Mistake:
    """Something that people do: a file, or changes on the command line, and a sentence on what is behind it."""

    title: str
    lesson: str
    text: str = ""
    changes: Sequence[str] = ()


MISTAKES = (
    Mistake(
        "A word that is not quite right",
        "Kinds, settings, names and sections are all known, so the nearest one is offered.",
        """\
        extends: tiny/coca
        components:
          vision:     {use: vit, dept: 6}
          similarity: {use: similarty}
        graph:
          words: unimodel(caption)
        """,
    ),
    Mistake(
        "A call inside `{}`",
        "YAML cuts `{...}` at every comma, brackets or not. An expression has a name in `graph`, so that it can be "
        "overridden and asked for.",
        """\
        extends: tiny/coca
        losses:
          captioning: {use: next_token, logits: lm_head(multimodal(words, context=visual)), weight: 2}
        """,
    ),
    Mistake(
        "Widths that do not meet",
        "Dimensions are unified by name over the whole graph; both sides of a clash are shown.",
        """\
        extends: tiny/coca
        components:
          multimodal: {width: 96}
        """,
    ),
    Mistake(
        "A patch that does not divide the image",
        "Settings that contradict each other are found from wherever they were written, with values that would work.",
        changes=("inputs.image.size=70",),
    ),
    Mistake(
        "A model that sees what it must foretell",
        "Which words reach which position is computed through every component. Here the upper decoder looks at the "
        "words themselves as a context, all of them.",
        """\
        extends: tiny/coca
        graph:
          joint: multimodal(words.tokens, context=words)
        """,
    ),
    Mistake(
        "An entry that reads itself",
        "The expression that is replaced is called `previous`.",
        """\
        extends: tiny/coca
        components:
          mapped: {use: projection, out: 128}
        graph:
          image_embedding: normalize(mapped(image_embedding))
        """,
    ),
    Mistake(
        "A CLS where there is none",
        "A sequence says where its CLS is.",
        """\
        extends: tiny/coca
        graph:
          image_embedding: normalize(image_proj(vision(image).cls))
        """,
    ),
    Mistake(
        "Lists that do not mirror each other",
        "A similarity remembers which two things it compares, so the same direction twice is no contrastive loss.",
        """\
        extends: tiny/coca
        losses:
          contrastive: {scores: [i2t, i2t]}
        """,
    ),
    Mistake(
        "An entry that nothing reads",
        "A file's own entry that nothing reads is usually one that was meant to replace another.",
        """\
        extends: tiny/coca
        graph:
          image_embeding: normalize(image_proj(first(visual)))
        """,
    ),
    Mistake(
        "A key that is written twice",
        "Most YAML readers take the last one in silence.",
        """\
        extends: tiny/coca
        inputs:
          image: {size: 64}
          image: {size: 96}
        """,
    ),
    Mistake(
        "A change that the shell ate",
        "`$alpha` in double quotes is empty; single quotes keep it.",
        changes=("losses.captioning.weight=",),
    ),
    Mistake(
        "A change of what is not there",
        "A bare word is a name of the graph; everything else is a full path.",
        changes=("size=96", "~losses.itm", "components.*.positions_of=rope"),
    ),
    Mistake(
        "An input that is dropped while it is read",
        "What falls with it is listed, and how to drop that too.",
        """\
        extends: tiny/coca
        drop: [inputs.caption]
        """,
    ),
    Mistake(
        "A loss in no stage",
        "It would never be lowered.",
        """\
        extends: tiny/coca
        losses:
          again: {use: next_token, logits: logits}
        """,
    ),
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, "mistakes.md", content=mistakes_page()))
    return files


def mistakes_page() -> str:
    """All mistakes with what they say."""
    return "\n".join([INTRODUCTION, *(line for mistake in MISTAKES for line in _section(mistake))])


def _section(mistake: Mistake) -> Iterator[str]:
    yield f"## {mistake.title}\n"
    yield f"{mistake.lesson}\n"
    if mistake.text:
        yield f'```yaml title="mine.yaml"\n{_flush(mistake.text)}```\n'
    if mistake.changes:
        quoted = " ".join(f"'{change}'" for change in mistake.changes)
        yield f"```bash\ncompose-vlp check tiny/coca {quoted}\n```\n"
    yield f"```text\n{printed_for(mistake)}```\n"


def printed_for(mistake: Mistake) -> str:
    """What the command prints for a mistake.

    Raises:
        ValueError: the mistake is none.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        name = "mine.yaml" if mistake.text else "tiny/coca"
        if mistake.text:
            Path(name).write_text(_flush(mistake.text), encoding="utf-8")
        try:
            Blueprint.load(name, overrides=mistake.changes).check()
        except BlueprintError as error:
            return _shortened(render(error.problems, error.excerpts))
    raise ValueError(f"{mistake.title}: nothing is wrong with this")


def _shortened(text: str) -> str:
    """Built-in files by the name under which they are called, not by where this machine has them."""
    from compose_vlp.blueprint.locate import LIBRARY

    return text.replace(f"{LIBRARY.resolve()}/", "")


def _flush(text: str) -> str:
    lines = text.rstrip().split("\n")
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "".join(f"{line[margin:]}\n" for line in lines)
