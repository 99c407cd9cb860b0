"""What the checker knows about a kind of component: its settings, ports, flows and promises. No torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, TypeVar

from compose_vlp.graph.types import Flow, ValueType

Category = Literal["component", "loss", "function", "slot", "adapter", "tokenizer", "source", "optimizer"]


@dataclass(frozen=True)
class AsPart:
    """Remark on a result: its positions are one part of this name.

    `cls` is where their CLS stands, or the name of what says it: a setting, or a fact of `Kind.describe`.
    """

    name: str
    cls: str = "none"


@dataclass(frozen=True)
class Patches:
    """Remark on a result: its positions are patches of a square picture.

    `grid` names the fact that says how they lie, or the settings: `size / patch`, sides in pixels.
    """

    grid: str


@dataclass(frozen=True)
class OnText:
    """Remark on logits: they stand at the words of the one text that comes in, where it stands on one.

    A CLS behind the words is left out. `required`: they are scores of its words, and there has to be one.
    """

    required: bool = False


@dataclass(frozen=True)
class Like:
    """Remark on a result: it is what the port gets; of several values, the first, reached by what reaches any of them.

    `width` names the setting that is its width; `rows` the port whose index says what its rows are.
    """

    port: str
    width: str = ""
    rows: str = ""

    def __str__(self) -> str:
        changes = [f"{name} `{value}`" for name, value in (("width", self.width), ("rows of", self.rows)) if value]
        return ", ".join((f"the same as `{self.port}`", *changes))


Mark: TypeAlias = AsPart | Patches | OnText | Like
M = TypeVar("M", AsPart, Patches, OnText, Like)


@dataclass(frozen=True)
class When:
    """Remark on a port: it is given only where this setting has this value, and there has to be, if it `must`.

    Without a setting it always has to be: only a compiled program leaves it out.
    """

    setting: str = ""
    value: Any = None
    must: bool = False

    def refusal(self, config: Any, port: str, given: bool) -> str | None:
        """Say why the port may not be given, or left out, with these settings; None where it may."""
        if not self.setting:
            return None if given else f"it needs a `{port}`"
        value = getattr(config, self.setting)
        if given and value != self.value:
            now = str(value).lower() if isinstance(value, bool) else value
            change = "set it" if self.value is True else f"set it to {self.value}"
            return f"`{self.setting}` is {now}: {change}, or give no `{port}`"
        if not given and self.must and value == self.value:
            return f"`{self.setting}` is {str(value).lower()}: give it a `{port}`"
        return None


Shown = Literal["images", "texts"]


@dataclass(frozen=True)
class Compares:
    """Remark on a port of similarities: what their rows show, and what their columns."""

    rows: Shown
    columns: Shown


@dataclass(frozen=True)
class Pattern:
    """A kind of value with named dimensions, e.g. `Sequence` and `("rows", "tokens", "width")`.

    The first dimension is the row variable. A dimension named as a setting of the component is unified with it; that of
    a result may name several, of which the first that is known counts (`width|input_width`). `marks` say of a result
    what its dimensions cannot.
    """

    kind: str
    dims: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()

    def mark(self, kind: type[M]) -> M | None:
        """The remark of this kind, if there is one."""
        return next((mark for mark in self.marks if isinstance(mark, kind)), None)

    def __str__(self) -> str:
        like = self.mark(Like)
        if like is not None:
            return str(like)
        return f"{self.kind}[{' '.join(self.dims)}]" if self.dims else self.kind


@dataclass(frozen=True)
class Port:
    """One argument of a component. `flow` says how positions of what comes in reach positions of what goes out."""

    name: str
    accepts: tuple[Pattern, ...]  # any one of these
    several: bool = False  # takes a list (or one value, read as a list of one)
    open: bool = False  # **values: any names (`join(vision=..., language=...)`)
    literal: bool = False  # takes a constant written in the blueprint (string, number) or a `$param`
    default: Any = ...  # `...` = must be given
    flow: Flow = Flow.ALL
    detached: bool = False  # gradients stop here
    choices: tuple[str, ...] = ()  # of a literal string port
    literal_types: tuple[str, ...] = ()  # which constants it takes: str, int, float, bool (any, where empty)
    bounded: Any = None  # the annotation of a constant with bounds
    token: bool = False  # takes a token that the text's tokenizer has to know
    beside: str = ""  # the port without which nothing reads this one
    compares: Compares | None = None  # what a similarity goes from and to, where that matters
    when: When | None = None  # the settings with which it may, or has to, be given
    mixes: bool = False  # a constant that, where it is given, makes rows depend on each other

    @property
    def required(self) -> bool:
        return self.default is ...

    @property
    def takes_number(self) -> bool:
        """Tell whether a number, and so a param or a schedule, may stand here."""
        return self.literal and (not self.literal_types or bool({"float", "int"} & set(self.literal_types)))


@dataclass(frozen=True)
class Setting:
    """One field of a component's configuration, as `components NAME` and the JSON Schema show it."""

    name: str
    annotation: str
    default: Any = ...
    description: str = ""
    inferred: str | None = None  # "" = from the dimension of the same name; "x.vocab_size" = from that port's size
    free: bool = False  # that port's size is only the default: what is written need not be the same
    bounds: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Clash:
    """Two settings that do not go together; the checker points at the later one and shows both and their origin."""

    message: str
    settings: tuple[str, ...]
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Need:
    """A fact that a tokenizer must not deny (`describe`) where a masker hides words of its texts.

    `lacking` says what such a tokenizer lacks; in `hint` stand `{masker}` and `{tokenizer}` for the two components.
    A fact that is a number is denied by one below `least`.
    """

    fact: Literal["mask", "end", "pieces", "vocab_size"]
    lacking: str
    hint: str
    least: int = 0

    def denied_by(self, described: Mapping[str, Any]) -> bool:
        """Tell whether a tokenizer that describes itself so has not what is needed; one that does not know may."""
        known = described.get(self.fact)
        return known is False or (isinstance(known, int) and known is not True and known < self.least)


@dataclass(frozen=True)
class Keys:
    """By what a component makes keys and values of a context.

    They are made by the parameters of its shareable part `part`, and of its settings only `facts` matter to them. Two
    components that share the part and have equal facts make equal ones, whatever their kinds.
    """

    part: str
    facts: tuple[Hashable, ...]


@dataclass(frozen=True)
class Traits:
    """Promises that the compiler relies on; the defaults promise nothing."""

    rows: Literal["independent", "batch"] = "batch"  # does a row of the output depend on its own row alone?
    # Does a call in training change a buffer? kept: a queue; learns: only while its weights are trained.
    state: Literal["none", "effect", "learns", "kept"] = "effect"
    draws: Literal["none", "choice", "noise"] = "noise"  # choice: one draw for all who read it (maskers, miners)
    context: Literal["indexed", "no"] = "no"  # offers keys_values(context) and rows=
    selects: bool = False  # a head that takes `at=`, a loss whose `selects(text or labels)` names the places it needs
    last_layer: bool = False  # a tower that takes `read`, the positions for which alone its last layer computes
    chunks: bool = False  # a head that takes `scored=False`, and then leaves its last product to the loss
    cuts: bool = False  # a masker: what goes out has a root of its own
    foretells: Literal["nothing", "next", "hidden"] = "nothing"  # a loss whose logits must not have seen its target
    auxiliary: tuple[str, ...] = ()  # losses of its own, each called as the setting that is its weight
    noise: tuple[str, ...] = ()  # settings that say by being 0, all of them, that no noise is drawn (else it always is)
    layers: str = ""  # the setting that says how many layers look at the context
    keys: Callable[[Any], Keys] | None = None  # of the settings; none: no other component's keys are like its own

    def frozen(self) -> Traits:
        """The promises of a component none of whose weights is trained."""
        return replace(self, rows="independent", state="none", draws="none") if self.state == "learns" else self


@dataclass(frozen=True)
class AuxiliaryLoss:
    """A loss that a component, or a part that stands in one of its slots, has of its own.

    `weight_path` is the setting that is its weight, as a path in the component (`ffn.balance`); `kind` is the kind that
    declares it, under `name`.
    """

    weight_path: str
    kind: str
    name: str
    weight: float


Output = Callable[[Any, Mapping[str, Any]], ValueType]


@dataclass(frozen=True)
class Kind:
    """A kind that blueprints can `use`, or call by name.

    `config` is a frozen pydantic model class (or None where there are no settings). `output(config, ports)` gives the
    type of the result; `ports` maps port names to `ValueType`, a tuple of them, or a literal. `flows(config)` refines
    the ports' flows from settings, `check(config)` lists clashes between settings, `tables(config)` names the weights
    that another size of image or length of text resizes, and how. `stub kinds` of tests build this
    class by hand; real ones are read off a class by `compose_vlp.registry`.
    """

    name: str
    category: Category
    ports: Mapping[str, Port]
    output: Output
    settings: Mapping[str, Setting] = field(default_factory=dict)
    config: type[Any] | None = None
    traits: Traits = Traits()
    parts: Mapping[str, str] = field(default_factory=dict)  # shareable part -> path pattern (`layers.*.self_attention`)
    flows: Callable[[Any], Mapping[str, Flow]] | None = None
    check: Callable[[Any], tuple[Clash, ...]] | None = None
    check_batch: Callable[[Any, int], tuple[Clash, ...]] | None = None  # settings against the records of a step
    describe: Callable[[Any], Mapping[str, Any]] | None = None  # sizes that only a library knows (timm's widths)
    needs: Callable[[Any], tuple[Need, ...]] | None = None  # what a masker asks of a tokenizer
    tables: Callable[[Any], Mapping[str, Any]] | None = None  # weights with a row for each position, by their path
    trainable: bool = True  # has weights
    cached: bool = False  # takes `cache=`: goes on from the positions that came before
    implementation: Any = None  # the class or function
    doc: str = ""
    source: str = ""  # module or file that defines it
    slot: str = ""  # the setting of towers that it fills, where it is an inner part
    promises: Callable[[Any], Traits] | None = None  # the traits with these settings, where inner parts decide
    own_losses: Callable[[Any], tuple[AuxiliaryLoss, ...]] | None = None  # with these settings; its parts' too

    def mixes(self, given: Collection[str]) -> bool:
        """Tell whether a row of the result depends on others, where these ports are given."""
        return self.traits.rows == "batch" or any(self.ports[name].mixes for name in given if name in self.ports)

    def with_settings(self, config: Any) -> Kind:
        """The kind with the promises that it makes for these settings."""
        return self if self.promises is None or config is None else replace(self, traits=self.promises(config))

    returns: Pattern | Mapping[str, Pattern] | None = None  # what the annotations promise, for people to read
