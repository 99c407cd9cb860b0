"""The schemas of what is written in every section but `components` and `losses`, whose fields are their kinds'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from compose_vlp.blueprint.document import kind_of
from compose_vlp.blueprint.inputs import INPUTS
from compose_vlp.blueprint.nodes import Entry, Mapping
from compose_vlp.blueprint.scalars import Memory, Quantity, read_memory
from compose_vlp.blueprint.schedules import Schedule
from compose_vlp.blueprint.typed import field_names as annotations_of

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Below: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
Rate: TypeAlias = Annotated[float, Field(ge=0)] | Schedule
Precision: TypeAlias = Literal["fp32", "bf16"]
EngineName: TypeAlias = Literal["ddp", "fsdp", "hybrid"]
Task: TypeAlias = Literal[
    "retrieval", "reranking", "captioning", "zero_shot", "classification", "answering", "grounding"
]


def _listed(patterns: str | tuple[str, ...]) -> tuple[str, ...]:
    """One pattern stands for a list of one."""
    return (patterns,) if isinstance(patterns, str) else patterns


def _some(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not patterns:
        raise ValueError("an empty list names nothing: leave the key out")
    return patterns


def _lasting(length: Quantity) -> Quantity:
    if length.value == 0:
        raise ValueError(f"`{length}` is no time at all: more than 0 is expected")
    return length


def _absolute(length: Quantity) -> Quantity:
    if length.unit == "percent":
        raise ValueError(f"`{length}` is a share of a stage, and no length of one: epochs, steps or samples")
    return _lasting(length)


Lasting: TypeAlias = Annotated[Quantity, AfterValidator(_lasting)]
Length: TypeAlias = Annotated[Quantity, AfterValidator(_absolute)]
if TYPE_CHECKING:
    Patterns: TypeAlias = tuple[str, ...]
    SomePatterns: TypeAlias = tuple[str, ...]
else:
    Patterns = Annotated[str | tuple[str, ...], AfterValidator(_listed)]
    SomePatterns = Annotated[Patterns, AfterValidator(_some)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Adapter(_Section):
    """What every adapter says beside its kind's settings: which linear maps it changes."""

    match: SomePatterns = Field(description="patterns of linear maps: `**.self_attention`, `[vision, text.layers.0]`")
    but: Patterns = Field((), alias="except", description="patterns of those among them that stay as they are")


class Teacher(_Section):
    """A world whose weights follow the student's: `weights = decay * weights + (1 - decay) * student's`."""

    decay: Share | Schedule = Field(description="share of its own weights that it keeps")
    update: Literal["before", "after"] = Field("before", description="whether it follows before or after its forward")
    mode: Literal["train", "eval"] = Field("eval", description="whether it runs with dropout and batch statistics")


class Rule(_Section):
    """What the optimizer does otherwise for the parameters that match; the last rule that says something wins."""

    match: SomePatterns = Field(description="patterns of parameters: `vision`, `**.bias`")
    max_dims: int | None = Field(
        None,
        ge=0,
        description="of these only such of at most so many dimensions: 1 is biases, norms and single numbers",
    )
    lr: Rate | None = Field(None, description="learning rate of these parameters")
    lr_scale: Annotated[float, Field(ge=0)] | None = Field(None, description="factor on the learning rate")
    weight_decay: Annotated[float, Field(ge=0)] | None = Field(None, description="weight decay of these parameters")

    @model_validator(mode="after")
    def _says_something(self) -> Rule:
        if self.lr is None and self.lr_scale is None and self.weight_decay is None:
            raise ValueError("`match` alone changes nothing: a rule says `lr`, `lr_scale` or `weight_decay`")
        return self


class LayerDecay(_Section):
    """Rates that fall from the last layer to the first."""

    rate: Annotated[float, Field(gt=0, le=1)] = Field(description="what a layer's rate is of that of the one above it")
    order: tuple[SomePatterns, ...] = Field(
        min_length=1,
        description="components from the bottom up, each as many levels as it has layers; those in a list beside each "
        "other",
    )


class Optimizer(_Section):
    """How gradients become steps."""

    use: Literal["adamw"] = Field("adamw", description="kind of optimizer")
    lr: Rate = Field(description="learning rate")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    betas: tuple[Below, Below] = Field((0.9, 0.999), description="decay of the first and second moment")
    eps: float = Field(1e-8, gt=0, description="added to the root of the second moment")
    clip: Annotated[float, Field(gt=0)] | None = Field(
        None, description="largest norm of the whole gradient; not clipped, if left out"
    )
    layer_decay: LayerDecay | None = Field(None, description="a factor on every rate, by how deep a layer lies")
    rules: tuple[Rule, ...] = Field((), description="exceptions by pattern, in order")


class ZeroShot(_Section):
    """Classifying pictures by texts that name the classes (CLIP, Radford et al. 2021, section 3.1)."""

    label: str = Field("label", description="field of the records that holds a picture's class: its name or number")
    classes: str | tuple[str, ...] | None = Field(
        None, description="names of the classes or a file of them, a line each; those of the data, if left out"
    )
    templates: str | tuple[str, ...] | None = Field(
        None, description="texts with `{}` for the name, or a file of them; a small list, if left out"
    )


class Rerank(_Section):
    """Retrieval in two steps: embeddings choose candidates, `match` puts them in order (ALBEF, section 3.4)."""

    top: int = Field(128, ge=1, description="candidates of each query; the papers take 128 on Flickr30K, 256 on COCO")
    add_similarity: bool = Field(False, description="add the cosine to the score of a match, as BLIP does")


class Evaluate(_Section):
    """What is measured while a stage trains, and at its end; it changes nothing of what is learnt."""

    every: Quantity = Field(description="how often: `1 epoch`, `500 steps`, `10 %`; 0 is at the end alone")
    data: str | None = Field(None, description="the source; the stage's own, if left out")
    tasks: tuple[Task, ...] | None = Field(None, min_length=1, description="all that the outputs allow but `reranking`")
    count: int = Field(1000, ge=2, description="records, the first ones")
    zero_shot: ZeroShot | None = Field(None, description="classes and texts of the task `zero_shot`")
    rerank: Rerank | None = Field(None, description="candidates and scores of the task `reranking`")

    @model_validator(mode="after")
    def _read(self) -> Evaluate:
        if self.rerank is not None and "reranking" not in (self.tasks or ()):
            raise ValueError("`rerank` is for the task `reranking`, which `tasks` has to name: it is dear")
        if self.zero_shot is not None and "zero_shot" not in (self.tasks or ("zero_shot",)):
            raise ValueError("`zero_shot` is for the task of this name, which `tasks` leaves out")
        return self


class Distribute(_Section):
    """How several processes share a stage's work, by torch's engines."""

    use: EngineName = Field(
        description="`ddp`: the whole model in each; `fsdp`: shards over all; `hybrid`: copies of it, each in shards"
    )
    shards: Annotated[int, Field(ge=2)] | None = Field(
        None, description="processes over which `hybrid` divides each copy; those of one machine, if left out"
    )
    offload: bool = Field(False, description="whether shards and the optimizer stay in the host's memory")
    reshard: bool = Field(True, description="whether a layer's weights are given up between forward and backward")

    @model_validator(mode="after")
    def _read(self) -> Distribute:
        if self.shards is not None and self.use != "hybrid":
            raise ValueError(f"`shards` is for `use: hybrid`; `{self.use}` does not read it")
        if self.use == "ddp" and (self.offload or not self.reshard):
            raise ValueError("`ddp` has the whole model in every process: `offload` and `reshard` are for shards")
        return self


def _distributed(how: str | Distribute) -> Distribute:
    return how if isinstance(how, Distribute) else Distribute.model_validate({"use": how})


if TYPE_CHECKING:
    Distributed: TypeAlias = Distribute
else:
    Distributed = Annotated[EngineName | Distribute, AfterValidator(_distributed)]


def _recomputed(what: str | tuple[str, ...]) -> Memory | tuple[str, ...]:
    """Names are a list; one value that begins as no name can is an amount of memory."""
    if isinstance(what, str):
        return read_memory(what) if what[:1].isdigit() or what[:1] in "+-." else (what,)
    return what


if TYPE_CHECKING:
    Recomputed: TypeAlias = Memory | tuple[str, ...]
else:
    Recomputed = Annotated[str | tuple[str, ...], AfterValidator(_recomputed)]


class Stage(_Section):
    """A part of training with a plan of its own; nothing is inherited from the stage before."""

    data: str | dict[str, str] = Field(description="a source, or one for each source that the inputs name")
    losses: tuple[str, ...] = Field(min_length=1, description="the losses that it lowers")
    length: Length | None = Field(None, description="how long it is: `20 epochs`, `500 steps`, `1e6 samples`")
    batch: int | None = Field(None, ge=1, description="records a step, over all processes")
    accumulate: int = Field(1, ge=1, description="parts that a step's batch is computed in")
    bucket: int | None = Field(
        None, ge=2, description="batches of a window, in each of which texts of like length are put together"
    )
    train: SomePatterns | None = Field(None, description="patterns of what is trained; everything, if left out")
    freeze: Patterns | None = Field(None, description="patterns of what is not trained; whole modules run in eval mode")
    set: dict[str, Any] | None = Field(None, description="overrides by path that keep the shapes of parameters")
    optimizer: Optimizer | None = Field(None, description="the optimizer; the blueprint's, if left out")
    precision: Precision | None = Field(None, description="precision of the arithmetic; the blueprint's, if left out")
    distribute: Distributed | None = Field(
        None, description="how several processes share the work: `ddp`, `fsdp`, `hybrid`; the blueprint's, if left out"
    )
    recompute: Recomputed | None = Field(
        None,
        description="components whose layers are computed again in the backward, or the memory that one process may "
        "take (`60 GB`), by which they are chosen; the blueprint's, if left out",
    )
    checkpoint: Lasting | None = Field(None, description="how often the run is saved")
    evaluate: Quantity | Evaluate | None = Field(
        None, description="how often the outputs are evaluated, or also on what (`every`, `data`, `tasks`, `count`)"
    )


class Start(_Section):
    """Where weights come from: a file (`from`, `in`, `as`, `to`, `of`), or nowhere (`new`)."""

    origin: str | None = Field(None, alias="from", description="file or folder of weights")
    inside: str | None = Field(
        None, alias="in", description="key of a checkpoint that holds the weights of several models, `state_dict_ema`"
    )
    form: str | None = Field(None, alias="as", description="format of the file, where it does not say")
    to: SomePatterns | None = Field(None, description="components that take them: `vision`, `momentum.**`")
    of: str | None = Field(None, description="component of the file that gives them, where it has another name")
    new: SomePatterns | None = Field(
        None, description="patterns of parameters that may start from their initialisation"
    )

    @model_validator(mode="after")
    def _one_form(self) -> Start:
        if (self.origin is None) == (self.new is None):
            raise ValueError("an item of `start` has `from` or `new`")
        if self.new is not None and any(value is not None for value in (self.to, self.form, self.of, self.inside)):
            raise ValueError("`new` stands alone")
        if self.of is not None and self.to is None:
            raise ValueError("`of` names what the file calls a component: `to` says which of ours takes its weights")
        return self


class Generate(_Section):
    """Words, one after the other: greedy, by beams, or drawn."""

    generate: str = Field(description="the logits that foretell the next word")
    over: str = Field(description="the text that is written; it starts as one empty text a row")
    by: Literal["next", "mask"] = Field("next", description="read the next word at the last position, or at a mask's")
    beams: int = Field(1, ge=1, description="texts kept at every step; 1 is greedy")
    max_length: int | None = Field(None, ge=2, description="tokens at most, a prompt counted; the input's, if left out")
    min_length: int = Field(0, ge=0, description="tokens before the end may be chosen, a prompt counted")
    length_penalty: float = Field(1.0, description="power of the length that a beam's score is divided by")
    repetition_penalty: float = Field(1.0, gt=0, description="what the scores of words said before are divided by")
    top_k: int | None = Field(None, ge=1, description="draw from so many of the likeliest words")
    top_p: float | None = Field(None, gt=0, le=1, description="draw from the likeliest words of so much probability")
    temperature: float | None = Field(None, gt=0, description="draw, with logits divided by this")

    @model_validator(mode="after")
    def _go_together(self) -> Generate:
        drawn = [name for name in ("top_p", "top_k", "temperature") if getattr(self, name) is not None]
        if self.beams > 1 and drawn:
            raise ValueError(
                f"beams are searched and not drawn: `beams` and `{drawn[0]}` exclude each other; `beams: 1` draws"
            )
        if self.beams == 1 and self.length_penalty != 1:
            raise ValueError("`length_penalty` puts beams in order, and there is one: `beams` of 2 or more")
        if self.max_length is not None and self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is more than max_length {self.max_length}")
        return self


class Rank(_Section):
    """The likeliest of given texts."""

    rank: str = Field(description="the logits that foretell the next word")
    over: str = Field(description="the text that is judged")
    among: str = Field(description="an input with a table")
    top: int | None = Field(None, ge=1, description="judge only so many, the likeliest by their first word")
    first_word: int = Field(1, ge=1, le=2, description="how often its log-probability counts: twice in ALBEF's code")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each word's target spread evenly over all words: 0.1 in BLIP's code"
    )


class Relevance(_Section):
    """Where in one value the reasons of another lie: Grad-CAM of a cross-attention."""

    relevance: str = Field(description="the score that is explained")
    to: str = Field(description="the value whose positions are weighed")
    through: str = Field(description="the component whose attention is read")
    layer: int = Field(0, ge=0, description="layer of that component, counted from 0")


OUTPUTS: dict[str, type[_Section]] = {"generate": Generate, "rank": Rank, "relevance": Relevance}


class DataSource(_Section):
    """What every data source may say beside its kind's fields."""

    use: str | None = Field(None, description="kind of source")
    mix: dict[str, Annotated[float, Field(gt=0)]] | None = Field(None, description="other sources, with their weights")
    fields: dict[str, str] | None = Field(
        None, description="further names of fields: `{caption: sentence}` has the sentence under caption too"
    )
    skip_limit: Share = Field(0.05, description="share of broken records above which a run stops")


class Tracking(_Section):
    """What is recorded, and where."""

    experiment: str | None = Field(None, description="MLflow experiment; the blueprint's name, if left out")
    run_name: str | None = Field(None, description="name of the run; made from name, seed and time, if left out")
    uri: str | None = Field(None, description="MLflow server or store; MLFLOW_TRACKING_URI, else a store on disk")
    system_metrics_s: float = Field(
        10.0, ge=0, description="seconds between readings of CPU, memory and GPU; 0 is never"
    )
    model: bool = Field(True, description="whether the finished model goes to MLflow too, in its own format")
    parent: str | None = Field(
        None, pattern=r"^[0-9a-f]+$", description="key of the run that this one is shown below, such as a sweep's"
    )


ONE_VALUE: dict[str, Any] = {
    "name": str,
    "title": str,
    "paper": str,
    "length": Length,
    "batch": Annotated[int, Field(ge=1)],
    "precision": Precision,
    "distribute": Distributed,
    "recompute": Recomputed,
    "train": SomePatterns,
    "freeze": Patterns,
}
"""Sections that are one value or list, with the type that they are read by."""

_MAPPINGS: dict[str, type[BaseModel]] = {
    "optimizer": Optimizer,
    "tracking": Tracking,
    "distribute": Distribute,
}
_ENTRIES: dict[str, type[BaseModel]] = {
    "adapters": Adapter,
    "teachers": Teacher,
    "stages": Stage,
    "data": DataSource,
    "params": Schedule,
}


def model_of(section: str, entry: Entry | None) -> type[BaseModel] | None:
    """The schema of a section that is a mapping, or of an entry of a section of entries; None where there is none."""
    if section in _MAPPINGS:
        return _MAPPINGS[section]
    if section in _ENTRIES:
        return _ENTRIES[section]
    if section == "inputs" and entry is not None:
        kind = kind_of(entry)
        return INPUTS.get(kind.text) if kind else None
    if section == "outputs" and entry is not None and isinstance(entry.value, Mapping):
        return next((model for form, model in OUTPUTS.items() if form in entry.value), None)
    return None


def field_names(model: type[BaseModel]) -> frozenset[str]:
    """The keys of a schema, as they are written."""
    return frozenset(annotations_of(model))
