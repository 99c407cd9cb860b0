"""Pictures of coloured shapes, drawn on the fly, with all that the papers' tasks ask for and the truth beside it."""

from __future__ import annotations

from functools import partial
from typing import Literal, Self

from pydantic import Field, model_validator

from compose_vlp.data.draws import Draws
from compose_vlp.data.scenes.noise import wrong_caption
from compose_vlp.data.scenes.paint import paint
from compose_vlp.data.scenes.questions import question, unique_things
from compose_vlp.data.scenes.statements import pair_statement, statement
from compose_vlp.data.scenes.wording import caption, noun
from compose_vlp.data.scenes.world import MAX_THINGS, Scene, box, draw_scene
from compose_vlp.data.source import Record, Source
from compose_vlp.registry import Settings, source


@source("scenes")
class Scenes(Source):
    """Embedded procedural pictures with captions, questions, statements and pairs; nothing to download.

    Fields of a record: `id`; `image`, `caption` (wrong at the rate `noise`), `caption_right`, `true_caption`;
    `question`, `answer`, `answers` (with weights); `statement`, `statement_right`; `left`, `right`, `pair_statement`,
    `pair_right`; `phrase`, words for one of the objects that are told from all others by colour and shape, and its
    `box`; in pictures of one object its `colour` and `shape`; and `scene`, `right_scene`: the truth
    (`compose_vlp.data.scenes.world.Scene`).
    """

    class Config(Settings):
        """Settings of the source; the same seed gives the same records at every size and length."""

        size: int = Field(64, ge=8, le=4096, description="side of the pictures in pixels")
        min_objects: int = Field(2, ge=1, le=MAX_THINGS, description="fewest objects in a picture")
        max_objects: int = Field(2, ge=1, le=MAX_THINGS, description="most objects in a picture")
        count: int = Field(100_000, ge=1, description="number of records")
        seed: int = Field(0, ge=0, description="which world; another seed gives other pictures")
        split: Literal["train", "unseen"] = Field("train", description="two streams of pictures that share none")
        noise: float = Field(0.0, ge=0, le=1, description="share of captions that are wrong, as the web's are")

        @model_validator(mode="after")
        def _fewest_below_most(self) -> Self:
            if self.min_objects > self.max_objects:
                raise ValueError(f"min_objects {self.min_objects} is more than max_objects {self.max_objects}")
            return self

    decodes = False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.settings = config

    def __len__(self) -> int:
        return self.settings.count

    def record(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        scene, other = self._scene("scene", index), partial(self._scene, "right", index)
        words = caption(scene, self._draws("caption", index))
        lies = self.settings.noise > 0 and self._draws("noise", index).chance(self.settings.noise)
        return {
            "id": index,
            "scene": scene,
            "image": partial(paint, scene, self.settings.size),
            "caption": partial(self._lie, scene, index) if lies else words,
            "caption_right": not lies,
            "true_caption": words,
            "question": lambda: question(scene, self._draws("question", index)).text,
            "answer": lambda: question(scene, self._draws("question", index)).best,
            "answers": lambda: question(scene, self._draws("question", index)).answers,
            "statement": lambda: statement(scene, self._draws("statement", index)).text,
            "statement_right": lambda: statement(scene, self._draws("statement", index)).true,
            **self._named(scene, index),
            "left": partial(paint, scene, self.settings.size),
            "right": lambda: paint(other(), self.settings.size),
            "right_scene": other,
            "pair_statement": lambda: pair_statement(scene, other(), self._draws("pair", index)).text,
            "pair_right": lambda: pair_statement(scene, other(), self._draws("pair", index)).true,
            **_classes(scene),
        }

    def _draws(self, what: str, index: int) -> Draws:
        """Make a stream for each thing drawn, so that nothing changes when another thing is not asked for."""
        return Draws(self.settings.seed, self.settings.split, what, index)

    def _scene(self, what: str, index: int) -> Scene:
        return draw_scene(self._draws(what, index), self.settings.min_objects, self.settings.max_objects)

    def _named(self, scene: Scene, index: int) -> dict[str, object]:
        """Choose a thing that its looks single out: the words for it and its box; nothing where there is none."""
        things = unique_things(scene)
        if not things:
            return {}
        draws = self._draws("phrase", index)
        thing = draws.pick(things)
        return {"phrase": noun(thing, draws), "box": box(thing)}

    def _lie(self, scene: Scene, index: int) -> str:
        return wrong_caption(scene, self._scene("elsewhere", index), self._draws("lie", index))


def _classes(scene: Scene) -> dict[str, str]:
    """Say what a picture of one object may be classified by; nothing where there are several."""
    return {"colour": scene.things[0].colour, "shape": scene.things[0].shape} if len(scene.things) == 1 else {}
