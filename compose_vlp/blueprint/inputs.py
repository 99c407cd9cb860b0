"""The typed mappings of a blueprint's `inputs`: what a model is fed, and how a record's field becomes it.

`like` is resolved by whoever reads the blueprint; data takes mappings in which it has been answered.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Colour = Annotated[int, Field(ge=0, le=255)]


class _Mapping(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class _Input(_Mapping):
    field: str | None = Field(None, alias="from", description="field of the record; the input's own name if left out")
    like: str | None = Field(None, description="input of the same type from which unwritten settings are taken")
    source: str = Field("main", description="which of the step's sources feeds it")


class RandAugment(_Mapping):
    """ALBEF's and BLIP's RandomAugment: `count` operations drawn from ten, each done with the probability 0.5."""

    count: int = Field(2, ge=1, description="operations drawn")
    level: float = Field(ge=0, le=10, description="strength of all of them: 7 in ALBEF, 5 in BLIP")


class ImageAugment(_Mapping):
    """What is done to a picture in training, drawn anew for each record and epoch."""

    crop: tuple[Share, Share] | None = Field(
        None, description="bounds of the area, as a share of the picture's, of a random crop"
    )
    ratio: tuple[Positive, Positive] = Field((3 / 4, 4 / 3), description="bounds of the crop's width / height")
    flip: Share = Field(0.0, description="probability of mirroring left and right (captions that name sides forbid it)")
    jitter: Share = Field(
        0.0, description="brightness, contrast and colour, each times a factor up to so much from 1, in any order"
    )
    randaugment: RandAugment | None = Field(
        None, description="colours, shears, shifts and turns, after crop and flip (captions that name places forbid it)"
    )

    @model_validator(mode="after")
    def _bounds_ascend(self) -> ImageAugment:
        if self.crop is not None and not 0 < self.crop[0] <= self.crop[1]:
            raise ValueError("crop: bounds are two shares of the area above 0, the smaller one first")
        if self.ratio[0] > self.ratio[1]:
            raise ValueError("ratio: the smaller bound comes first")
        if self.crop is None and "ratio" in self.model_fields_set:
            raise ValueError("ratio: it is a crop's, and there is no `crop`")
        return self


class ImageInput(_Input):
    """A square picture, `[3, size, size]`."""

    type: Literal["image"] = "image"
    size: int = Field(gt=0, le=4096, description="side in pixels")
    mean: tuple[float, float, float] = Field((0.5, 0.5, 0.5), description="subtracted from red, green, blue in [0, 1]")
    std: tuple[Positive, Positive, Positive] = Field((0.5, 0.5, 0.5), description="what the difference is divided by")
    resize: Literal["stretch", "crop", "pad"] = Field(
        "stretch",
        description="stretch: both sides to size; crop: the shorter side to size, then the centre; "
        "pad: the longer side to size, on a ground of colour `ground`",
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = Field(
        "bicubic", description="how pixels are resampled (always antialiased)"
    )
    ground: tuple[Colour, Colour, Colour] = Field(
        (255, 255, 255), description="colour under transparent pixels and around a padded picture"
    )
    augment: ImageAugment | None = Field(None, description="in training only")
    view: str | None = Field(
        None,
        description="inputs of equal view (and field) share crop, flip and jitter between two sizes of one picture",
    )


class TextInput(_Input):
    """Token ids of one text, or with `many` of several texts a record; or with `table` of a constant list."""

    type: Literal["text"] = "text"
    tokenizer: str = Field(description="name of the tokenizer among the components")
    max_length: int = Field(ge=2, description="tokens at most, begin and end counted; positions are made for so many")
    clean: Literal["albef_caption", "albef_question", "blip_caption", "blip_question"] | None = Field(
        None, description="what is done to a text first, by a paper's rule; the tokenizer's own cleaning follows"
    )
    words: int | None = Field(None, ge=1, description="words kept, counted after cleaning")
    end: bool = Field(True, description="does a text end with the tokenizer's end token? What is generated must")
    many: bool = Field(False, description="a record holds several, with rows of their own, an owner and a weight")
    table: str | None = Field(None, description="file with one text a line that are the same in every batch")
    templates: str | None = Field(
        None, description="file with one phrase a line, `{}` standing for a text of the table"
    )
    pad: Literal["longest", "frame"] = Field(
        "longest", description="pad a batch to its longest text, or to max_length always"
    )
    spare: int = Field(0, ge=0, description="columns of padding kept after the longest text")

    @model_validator(mode="after")
    def _one_of_many_and_table(self) -> TextInput:
        if self.table is not None and self.many:
            raise ValueError("many belongs to records, table to a constant list: only one of them can be set")
        if self.templates is not None and self.table is None:
            raise ValueError("templates phrase the texts of a table: set table too")
        return self


class IdInput(_Input):
    """What a record is about (an image's id): whole numbers as they are, texts as a hash of 63 bits."""

    type: Literal["id"] = "id"


class LabelInput(_Input):
    """A class: its number, or its place in `classes`; with `many`, several classes a record."""

    type: Literal["label"] = "label"
    classes: tuple[str, ...] | str | None = Field(
        None, description="names of the classes in the order of their numbers, or a file with one a line"
    )
    count: int | None = Field(
        None, ge=1, description="how many there are, where they have no names; those of the head that reads it"
    )
    many: bool = Field(False, description="a record holds several, with rows of their own, an owner and a weight")
    weigh: Literal["share", "vqa"] = Field(
        "share",
        description="weight of a class among many: its share of the record's list, or what the record's mapping says; "
        "vqa: 0.3, 0.6, 0.9 and 1 for one, two, three, and four or more annotators, lists and mappings holding "
        "answers and their counts, of which those that are no class are left out",
    )

    @model_validator(mode="after")
    def _weighed_are_many(self) -> LabelInput:
        if self.weigh != "share" and not self.many:
            raise ValueError("weigh says what each of several classes weighs: set `many: true` too")
        return self

    @model_validator(mode="after")
    def _one_of_classes_and_count(self) -> LabelInput:
        if self.classes is not None and self.count is not None:
            raise ValueError("classes that have names are counted: leave `count` out")
        return self


class NumberInput(_Input):
    """A real number."""

    type: Literal["number"] = "number"


Input: TypeAlias = ImageInput | TextInput | IdInput | LabelInput | NumberInput

INPUTS: dict[str, type[_Input]] = {
    "image": ImageInput,
    "text": TextInput,
    "id": IdInput,
    "label": LabelInput,
    "number": NumberInput,
}


def parse_input(settings: dict[str, Any]) -> Input:
    """The typed mapping of settings that hold a `type` (as tests and the Python API write them)."""
    parsed: Any = INPUTS[settings["type"]].model_validate(settings)
    return parsed  # type: ignore[no-any-return]
