"""A sweep as it is written, in a file or on the command line: a base, what is varied, and what is equal for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compose_vlp.blueprint.nodes import Scalar
from compose_vlp.blueprint.sections import Task
from compose_vlp.errors import Span
from compose_vlp.sweep.ranges import Range
from compose_vlp.sweep.words import Word


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Search(_Part):
    """Values are drawn from ranges, by Optuna."""

    use: Literal["search"]
    trials: int = Field(ge=1, description="how many cells are drawn")
    objective: str = Field(description="the score that is looked for, such as `retrieval.mean_recall`")
    direction: Literal["maximize", "minimize"] = Field("maximize", description="which way the score is better")
    sampler: str = Field("tpe", description="Optuna's sampler: tpe, random, gp, cmaes, nsgaii, qmc")
    pruner: str = Field("none", description="Optuna's pruner: none, median, successive_halving, hyperband, ...")
    seed: int = Field(0, ge=0, description="of the sampler")


class Measure(_Part):
    """What is measured of each trained model, as `compose-vlp evaluate` does."""

    data: str | None = Field(None, description="an entry of `data`; the last stage's, if left out")
    tasks: tuple[Task, ...] | None = Field(None, min_length=1, description="all that outputs and data allow, else")
    count: int = Field(1000, ge=2, description="records, the first ones")
    changes: tuple[str, ...] = Field((), description="changes of data or outputs: `data.pairs.split=unseen`")
    scores: tuple[str, ...] = Field((), description="the scores that are reported, the main one first; all, else")


class Budget(_Part):
    """What each run may spend: of steps, floating point operations or minutes, one."""

    steps: Annotated[int, Field(ge=1)] | None = Field(None, description="steps of the stage")
    flops: Annotated[float, Field(gt=0)] | None = Field(None, description="floating point operations of the stage")
    minutes: Annotated[float, Field(gt=0)] | None = Field(None, description="minutes of the stage")
    stage: str | tuple[str, ...] | None = Field(
        None, description="the stage whose length it is, of several names the first that a cell has; the only one, else"
    )

    @model_validator(mode="after")
    def _one(self) -> Budget:
        if sum(amount is not None for amount in (self.steps, self.flops, self.minutes)) != 1:
            raise ValueError("a budget is one of steps, flops and minutes")
        return self

    def __str__(self) -> str:
        if self.steps is not None:
            return f"{self.steps} steps"
        return f"{self.flops:g} FLOPs" if self.flops is not None else f"{self.minutes:g} minutes"


Plain: TypeAlias = Literal["grid", "one_at_a_time", "fraction"]
Design: TypeAlias = Plain | Search


@dataclass(frozen=True)
class Level:
    """One setting of a factor: a named bundle of changes, laid over the base."""

    name: str
    span: Span
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Factor:
    """What is varied. Its first level is the baseline's; a `range` has no levels, and a search draws from it."""

    name: str
    key: Scalar
    levels: tuple[Level, ...]
    range: Range | None = None

    def level(self, name: str) -> Level | None:
        return next((level for level in self.levels if level.name == name), None)


@dataclass(frozen=True)
class Sweep:
    """A sweep after reading. `spans` are the places of its keys; `lines` the sources' lines, for messages."""

    name: str
    question: str
    base: tuple[Word, ...]
    factors: tuple[Factor, ...]
    seeds: tuple[int, ...] = (0,)
    design: Design = "grid"
    leave_out: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    measure: Measure = field(default_factory=Measure)
    budget: Budget | None = None
    spans: Mapping[str, Span] = field(default_factory=dict)
    lines: Mapping[str, Sequence[str]] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)

    def span(self, *keys: str) -> Span | None:
        """The place of the first of these keys that is written."""
        return next((self.spans[key] for key in keys if key in self.spans), None)
