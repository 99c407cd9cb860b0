"""The report of a build as people read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from compose_vlp.compiler.explain import Effect
from compose_vlp.compiler.figures import Figure
from compose_vlp.graph.words import shape_words
from compose_vlp.readable import count, duration, percent, storage, work

N = TypeVar("N", int, float)

BAR = 16
"""Characters that stand for the largest component."""


def report_text(report: Mapping[str, Any], kinds: Mapping[str, str], figures: Sequence[Figure] = ()) -> Group:
    """`report` is what `build --json` prints; `kinds` names each component's kind."""
    return Group(*_blocks(report, kinds, figures))


def _blocks(report: Mapping[str, Any], kinds: Mapping[str, str], figures: Sequence[Figure]) -> Iterator[RenderableType]:
    parameters = report["parameters"]
    trainable = parameters["trainable"] / max(parameters["total"], 1)
    part = {0: "none trained", 1: "all trained"}.get(trainable, f"{percent(trainable)} trained")
    yield _heading(f"Parameters  {count(parameters['total'])}", f"{parameters['total']:,}, {part}")
    yield _parameters(parameters["by_component"], kinds)
    if parameters["untrained"]:
        yield Text(f"  no loss of this stage reaches {', '.join(parameters['untrained'])}", style="dim")
    if parameters["frozen"]:
        yield Text(f"  frozen in this stage: {', '.join(parameters['frozen'])}", style="dim")
    if figures:
        yield _heading("Beside the paper", "its own figures, and what is built")
        yield _figures(figures)
    if report.get("layer_decay"):
        yield _heading("Layer decay", "what a level's rate is multiplied with, from the bottom up")
        yield _levels(report["layer_decay"])
    yield _heading("Values", "B is the batch, `all B` the batch of all processes")
    yield _values(report["values"])
    yield _heading("A training step", f"at batch {report['flops']['batch']}, forward and backward")
    yield _step(report["flops"], report["memory"], report.get("recompute", {}), report.get("precision", "fp32"))
    if report["passes"]:
        yield _heading("Passes", "`--without NAME` leaves one out")
        yield _passes(report["passes"])


def effects_text(effects: Sequence[Effect]) -> Group:
    """What each pass changed of a step, the first beside the program as the blueprint has it."""
    timed = any(effect.after.seconds is not None for effect in effects)
    columns = ["calls", "work", "activations", *(["time"] if timed else [])]
    table = _table(("pass", "left"), *((column, "right") for column in columns))
    for effect in effects:
        pairs = [
            _change(effect.before.calls, effect.after.calls, str),
            _change(effect.before.flops, effect.after.flops, work),
            _change(effect.before.kept_bytes, effect.after.kept_bytes, storage),
            _change(effect.before.seconds, effect.after.seconds, duration),
        ]
        table.add_row(effect.name, *pairs[: len(columns)])
    counted = f"; activations in {effects[0].precision}" if effects else ""
    return Group(_heading("What each pass changed", f"one after the other, as they run{counted}"), _inset(table))


def _change(before: N | None, after: N | None, written: Callable[[N], str]) -> str:
    if before is None or after is None:
        return "not known"
    if before == after:
        return written(after)
    share = after / before - 1 if written is not str else 0.0  # calls are few
    return f"{written(before)} → {written(after)}" + (f" ({share:+.1%})" if abs(share) >= 0.0005 else "")


def _heading(title: str, rest: str = "") -> Text:
    return Text.assemble((title, "bold"), (f"  {rest}" if rest else "", "dim"))


def _table(*columns: tuple[str, str]) -> Table:
    """Columns are (heading, justification)."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for number, (heading, justify) in enumerate(columns):
        right = justify == "right"
        table.add_column(heading, justify="right" if right else "left", style="cyan" if number == 0 else "")
    return table


def _inset(table: Table) -> Padding:
    return Padding(table, (0, 0, 1, 2))


def _parameters(by_component: Mapping[str, int], kinds: Mapping[str, str]) -> Padding:
    table = _table(("component", "left"), ("kind", "left"), ("parameters", "right"), ("", "right"), ("", "left"))
    total = max(sum(by_component.values()), 1)
    largest = max(by_component.values(), default=1)
    for name, number in sorted(by_component.items(), key=lambda item: -item[1]):
        bar = "█" * round(BAR * number / largest) or "▏"
        table.add_row(name, kinds.get(name, ""), f"{number:,}", percent(number / total), Text(bar, style="blue"))
    return _inset(table)


def _figures(figures: Sequence[Figure]) -> Padding:
    table = _table(("", "left"), ("components", "left"), ("built", "right"), ("paper", "right"), ("", "left"))
    for figure in figures:
        sign, style = ("✓", "green") if figure.agrees else ("✗", "yellow")
        verdict = Text(f"{sign} {figure.ratio - 1:+.1%}", style=style)
        table.add_row(figure.label, ", ".join(figure.components), count(figure.built), figure.printed, verdict)
    return _inset(table)


def _levels(levels: Sequence[Mapping[str, Any]]) -> Padding:
    table = _table(("factor", "right"), ("parameters", "right"), ("of", "left"))
    for level in levels:
        table.add_row(f"{level['factor']:.4g}", f"{level['parameters']:,}", ", ".join(level["names"]))
    return _inset(table)


def _values(values: Mapping[str, Mapping[str, Any]]) -> Padding:
    table = _table(("value", "left"), ("kind", "left"), ("shape", "left"))
    for name, value in values.items():
        table.add_row(name, value["kind"], shape_words(value["kind"], value["shape"]))
    return _inset(table)


def _step(flops: Mapping[str, Any], memory: Mapping[str, int], recompute: Mapping[str, Any], precision: str) -> Padding:
    table = Table.grid(padding=(0, 2, 0, 0))
    if flops["step"] is None:
        table.add_row(Text("work", style="cyan"), "not known", Text(flops["unknown"], style="dim"))
        memory = {name: size for name, size in memory.items() if name not in ("activations", "backward")}
    else:
        before = flops["step_without_passes"] or flops["step"]
        less = 1 - flops["step"] / before
        saved = f"{percent(less)} less than the {work(before)} without passes" if less > 0.0005 else ""
        table.add_row(Text("work", style="cyan"), work(flops["step"]), Text(saved, style="dim"))
    parts = {name: size for name, size in memory.items() if name != "backward"}
    apart = sum(parts.get(name, 0) for name in ("gradients", "activations")) - memory.get("backward", 0)
    whole = sum(parts.values()) - (apart if "backward" in memory else 0)
    listed = ", ".join(f"{name} {storage(size)}" for name, size in parts.items())
    counted = "" if precision == "fp32" else f", activations in {precision}"
    together = "; gradients come while activations go" if apart and "backward" in memory else ""
    how = f"AdamW, float32{counted}{together}"
    table.add_row(Text("memory", style="cyan"), storage(whole), Text(f"{listed} ({how})", style="dim"))
    if recompute:
        listed = ", ".join(recompute["components"]) or "nothing"
        table.add_row(Text("again", style="cyan"), listed, Text(f"in the backward, {recompute['reason']}", style="dim"))
    return _inset(table)


def _passes(passes: Sequence[Mapping[str, Any]]) -> Padding:
    table = _table(("pass", "left"), ("calls", "right"), ("what it did", "left"))
    for applied in passes:
        before, after = applied["calls_before"], applied["calls_after"]
        calls = f"{before} → {after}" if before != after else str(after)
        table.add_row(applied["name"], calls, applied["note"] or Text("nothing to do here", style="dim"))
    return _inset(table)
