"""One picture and one text explained: maps, as numbers, as a picture and as a page."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from compose_vlp.blueprint.inputs import ImageInput, TextInput
from compose_vlp.blueprint.sections import Relevance
from compose_vlp.data.pictures import open_picture
from compose_vlp.data.pixels import to_rgb
from compose_vlp.data.source import BadRecord, Encoded
from compose_vlp.errors import UserError
from compose_vlp.evaluation.batches import picture_and_text
from compose_vlp.evaluation.heatmap import Resize, frame_of, over, peak, sheet
from compose_vlp.evaluation.page import Example, Section, gallery, results_page
from compose_vlp.evaluation.seeing import tokens_of
from compose_vlp.files import write_atomic
from compose_vlp.runtime.inference.explained import relevance_of
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.relevance import Explainer


@dataclass(frozen=True)
class Explained:
    """Where a text is in a picture.

    `heat` [side, side] is the text's map, `words` each word's (tokens, begin and end included), `score` what is
    explained, `settings` how.
    """

    picture: Image.Image
    text: str
    score: float
    heat: Tensor
    words: tuple[tuple[str, Tensor], ...]
    resize: Resize
    settings: Relevance

    @property
    def peak(self) -> tuple[float, float]:
        """Return the highest place (x, y) of the text's map, in shares of the picture."""
        frame, (x, y) = frame_of(self.resize, *self.picture.size), peak(self.heat)
        return frame.left + x * frame.width, frame.top + y * frame.height

    def shares(self) -> list[float]:
        """Return each word's share of the text's map; zeros where the map is zero everywhere."""
        sums = [float(heat.sum()) for _, heat in self.words]
        return [total / sum(sums) if sum(sums) else 0.0 for total in sums]

    def pictures(self) -> list[tuple[str, Image.Image]]:
        """Draw the picture under the text's map, then under each word's, every map as strong at its highest place."""
        drawn = [(self.text, over(self.picture, self.heat, self.resize))]
        for (word, heat), share in zip(self.words, self.shares(), strict=True):
            drawn.append((f"{word} ({share:.0%})", over(self.picture, heat, self.resize)))
        return drawn

    def save(self, file: Path) -> None:
        """Save as a sheet of pictures (`.png`), or as a page (`.html`)."""
        if file.suffix.lower() == ".html":
            write_atomic(file, self.page())
            return
        buffer = io.BytesIO()
        sheet(self.pictures()).save(buffer, "PNG")
        write_atomic(file, buffer.getvalue())

    def page(self) -> str:
        """Return the same as a page."""
        how = f"`{self.settings.relevance}`, through layer {self.settings.layer} of `{self.settings.through}`"
        (whole, *words) = [Example(picture, title) for title, picture in self.pictures()]
        note = "In brackets a word's share of the text's map; each map is as strong at its highest place."
        sections = [Section("The text", gallery([whole])), Section("Its words", gallery(words), note)]
        return results_page(self.text, how, sections)

    def as_json(self) -> dict[str, Any]:
        """For `--json`: maps row by row from above."""
        words = zip(self.words, self.shares(), strict=True)
        return {
            "text": self.text,
            "score": self.score,
            "explained": self.settings.model_dump(),
            "highest": dict(zip("xy", self.peak, strict=True)),
            "map": self.heat.tolist(),
            "words": [{"word": word, "share": share, "map": heat.tolist()} for (word, heat), share in words],
        }


def explain(
    asker: Asker, picture: Path | Encoded, text: str, *, output: str | None = None, layer: int | None = None
) -> Explained:
    """Show where a text is in a picture, by the output named, the only one of the form `relevance`, or a score found.

    Raises:
        UserError: nothing could be explained, the picture cannot be read, no word is left of the text, or the output
            reads something else than a picture and a text.
    """
    asker, name = relevance_of(asker, output)
    if layer is not None:
        asker = _at_layer(asker, name, layer)
    explainer, inputs = Explainer(asker, name), asker.blueprint.inputs
    picture_field, text_field = picture_and_text(asker, name, "this gives a picture and a text")
    image, words = inputs[explainer.shown], inputs[explainer.read]
    assert isinstance(image, ImageInput)
    assert isinstance(words, TextInput)
    try:
        shown = to_rgb(open_picture(picture), image.ground)
    except BadRecord as error:
        raise UserError(str(error)) from error
    maps = explainer.maps({picture_field: [shown], text_field: [text]})
    ids = maps.text.ids[0, : int(maps.text.lengths[0])].tolist()
    tokens = tokens_of(asker.tokenizers[words.tokenizer], ids)
    return Explained(
        shown,
        text,
        float(maps.scores[0]),
        maps.whole[0],
        tuple(zip(tokens, maps.words[0], strict=False)),
        image.resize,
        asker.blueprint.outputs[name].settings,
    )


def _at_layer(asker: Asker, name: str, layer: int) -> Asker:
    entry = asker.blueprint.outputs[name]
    changed = dataclasses.replace(entry, settings=entry.settings.model_copy(update={"layer": layer}))
    blueprint = dataclasses.replace(asker.blueprint, outputs={**asker.blueprint.outputs, name: changed})
    return Asker(blueprint, asker.model, asker.tokenizers, asker.device)
