"""A hook of mkdocs that writes the page of all messages, read from the code that says them; no code is run for it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final, TypeAlias

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent

SAYS: Final = frozenset(
    {
        "UserError",
        "BadRecord",
        "Problem",
        "AdapterError",
        "ShareError",
        "StoreError",
        "Clash",
        "add",
        "refuse",
        "refused",
    }
)
"""Calls that are handed a message, first but for `refuse`, and then hints."""
YOURS: Final = "…"
"""Stands where a message has what is the reader's own: a name, a number, a path."""
AREAS: Final[Mapping[str, str]] = {
    "blueprint": "Blueprints, as they are written",
    "graph": "Blueprints, and what they mean",
    "components": "Components",
    "data": "Data",
    "compiler": "Compiling and measuring",
    "runtime": "Training, and asking a model",
    "starts": "Starting weights",
    "interop": "Weights and numbers of others",
    "evaluation": "Evaluation",
    "sweep": "Sweeps",
    "report": "Runs and reports",
    "tracking": "Tracking",
    "capfilt": "CapFilt",
    "web": "The page to try a model on",
    "cli": "Commands",
    "": "Everything else",
}
"""Sections of the page by package."""

INTRODUCTION = f"""\
# Messages

The messages by which mistakes are told, as the code has them: look one up by its first words. `{YOURS}` stands for
what is yours in it (names, numbers, paths). Below a message stands, behind `=`, what is printed as the way out; where
one says `did you mean {YOURS}?`, the nearest thing that is known is named. [Mistakes](mistakes.md) shows some as
they are printed.
"""


Scope: TypeAlias = Mapping[str, list[ast.expr]]
"""What is assigned to names."""


@dataclass(frozen=True)
class Message:
    """A message with its hints, `YOURS` in all of them, and the module that says it."""

    text: str
    hints: tuple[str, ...]
    module: Path
    about: str

    def fits(self, printed: str) -> bool:
        """Tell whether a message that was printed is this one."""
        return re.fullmatch(".+".join(map(re.escape, self.text.split(YOURS))), printed, re.DOTALL) is not None


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, "messages.md", content=page()))
    return files


def page() -> str:
    """Write the page: areas, in them what modules are about, in these their messages."""
    parts = [INTRODUCTION]
    everything = messages()
    for area, title in AREAS.items():
        own = [message for message in everything if _area(message.module) == area]
        parts += [f"## {title}\n"] if own else []
        for about, those in groupby(own, key=lambda message: message.about):
            parts.append(f"### {about}\n\n```text\n{''.join(map(_lines, those))}```\n")
    return "\n".join(parts)


def _lines(message: Message) -> str:
    return "\n".join([message.text, *(f"  = {hint}" for hint in message.hints)]) + "\n"


def _area(module: Path) -> str:
    package = module.parts[1] if module.parts[0] == "compose_vlp" and len(module.parts) > 2 else module.parts[0]
    return package if package in AREAS else ""


def messages() -> list[Message]:
    """Read all messages of the package and of the components, module by module."""
    folders = (ROOT / "compose_vlp", ROOT / "components")
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    own = [path for path in files if not path.is_relative_to(ROOT / "compose_vlp" / "components")]  # a link
    return [message for path in own for message in read(path.read_text(encoding="utf-8"), path.relative_to(ROOT))]


def read(code: str, module: Path) -> Iterator[Message]:
    """Read the messages of one module, each text once."""
    tree = ast.parse(code)
    first = (ast.get_docstring(tree) or module.stem).split("\n\n")[0]
    about = re.split(r"[:.;](?:\s|$)", " ".join(first.split()))[0]
    seen: set[str] = set()
    for scope, call in _calls(tree, {}):
        values = [_texts(value, scope) for value in call.args]
        texts = (
            [choices for choices in values if choices]
            if _called(call.func) == "refuse" or (values and values[0])
            else []
        )
        hints = [hint for word in call.keywords if word.arg in ("hint", "hints") for hint in _texts(word.value, scope)]
        ways = map(_plain, [*(hint for choices in texts[1:] for hint in choices), *hints])
        ways_out = tuple(dict.fromkeys(way for way in ways if way.strip(f"{YOURS} ")))
        before = f"`{YOURS}`: " if _called(call.func) == "Clash" else ""  # the checker names the component
        for text in map(_plain, texts[0] if texts else ()):
            if len(re.findall(r"\w\w+", text)) > 1 and text not in seen:
                seen.add(text)
                yield Message(before + text, ways_out, module, about)


def _plain(text: str) -> str:
    return " ".join(re.sub(f"{YOURS}(?:{YOURS})+", YOURS, text).split())


def _calls(node: ast.AST, names: Scope) -> Iterator[tuple[Scope, ast.Call]]:
    """Walk through the calls that say something, each with the values of the names that its scope assigns."""
    if isinstance(node, ast.Module | ast.FunctionDef):
        own = sorted(_assigned(node), key=lambda pair: pair[0])
        names = {**names, **{name: [value for _, value in pairs] for name, pairs in groupby(own, lambda pair: pair[0])}}
    if isinstance(node, ast.Call) and _called(node.func) in SAYS:
        yield names, node
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, names)


def _assigned(scope: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """List what a function or a module assigns to names, and what the functions of a module return, as `name()`."""
    for node in ast.walk(scope) if isinstance(scope, ast.FunctionDef) else ast.iter_child_nodes(scope):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value
        elif isinstance(node, ast.FunctionDef) and isinstance(scope, ast.Module):
            returned = [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value]
            yield from ((f"{node.name}()", value) for value in returned)


def _called(function: ast.expr) -> str:
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    return str(name).lstrip("_")


def _texts(value: ast.expr, scope: Scope) -> list[str]:
    """List what a value may be as text, or the texts that it holds; nothing for what is no text."""
    match value:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=pieces):
            joined = [""]
            for piece in pieces:
                parts = [str(piece.value)] if isinstance(piece, ast.Constant) else _piece(piece, scope)
                joined = [f"{before}{part}" for before in joined for part in parts]
            return joined
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            rest = _texts(right, scope) or [YOURS]
            return [f"{first}{last}" for first in _texts(left, scope) for last in rest]
        case ast.IfExp(body=body, orelse=orelse):
            return [*_texts(body, scope), *_texts(orelse, scope)]
        case ast.BoolOp(values=values) | ast.Tuple(elts=values) | ast.List(elts=values):
            flat = [each for each in values if not isinstance(each, ast.Tuple)]  # a pair is a word and another place
            return [text for each in flat for text in _texts(each, scope)]
        case ast.Starred(value=inner):
            return _texts(inner, scope)
        case ast.Call(func=ast.Name(id="did_you_mean")):
            return [f"did you mean {YOURS}?"]
    name = _named(value)
    others = {other: values for other, values in scope.items() if other != name}
    return [text for each in scope.get(name, ()) for text in _texts(each, others)]


def _named(value: ast.expr) -> str:
    """Give the name under which a scope has what this stands for."""
    match value:
        case ast.Name(id=name):
            return name
        case ast.Call(func=ast.Name(id=name)):
            return f"{name}()"
    return ""


def _piece(value: ast.expr, scope: Scope) -> list[str]:
    """List what may stand in a text for a part of it: the texts that a name of the code is, or what is yours."""
    match value:
        case ast.FormattedValue(value=inner):
            return _piece(inner, scope)
        case ast.BoolOp(values=values):
            pass
        case ast.IfExp(body=body, orelse=orelse):
            values = [body, orelse]
        case _ if name := _named(value):
            values, scope = scope.get(name, []), {other: own for other, own in scope.items() if other != name}
        case _:
            values = []
    return (
        list(dict.fromkeys(text for each in values for text in _piece(each, scope))) or _texts(value, scope) or [YOURS]
    )
