"""Blueprints, overrides and mixtures spoilt by chance: what a person, an editor or a stranger may make of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Final

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.locate import LIBRARY, builtin_names
from compose_vlp.blueprint.nodes import Scalar
from compose_vlp.blueprint.trees import dotted, find, paths

FILE: Final = "f.yaml"
VALUES: Final = (
    "", "0", "-1", "1e999", "-1e999", ".inf", "inf", "nan", "NaN", ".nan", "9" * 400, "-" + "9" * 5000, "1e-400",
    "0x10", "1_000", "3.5", "1000000", "true", "True", "yes", "null", "None", "~", "''", '""', "[]", "{}", "[[]]",
    "[{}]", "{a: 1}", "[a, b]", "[" * 40 + "]" * 40, "[" * 3000, "{a: " * 3000, "{" * 40, "(" * 3000, "f(" * 5000,
    "[x" * 3000, "f(" * 60 + "x" + ")" * 60, "x" + ".a" * 5000, "x" + "[x]" * 3000, "a" * 300, "a/" * 3000, "é" * 200,
    "b\u0301", "\ufb01x", "$", "$lr", "$$", "$nope", "*", "**", "*.norm", "'*'", "&a x", "*a",
    "!!python/object:os.system x", "<<", "previous", "class", "import", "None", "lambda", "self", "own", "first",
    "__init__", "model", "torch", "image", "vision", "caption", "momentum", "text", "vit", "contrastive", "scenes",
    "0 steps", "-3 epochs", "1e99 steps", "5 %", "1 step", "inf steps", "../..", "/", "/dev/zero", "/dev/stdin",
    "C:\\x", "~/x.yaml", FILE, "coca", "'a\\nb'", '"\\x00"', '"\\u0000"', '"\\ud83d"', "'it''s'", "|", ">", "?", "- a",
    "{linear: [0, 1], over: 1 epoch}", "{linear: [1], over: 0 steps}", "{cosine: [1e999, 0]}",
    "{share: {'*': vision}}", "add([image, caption])", "concat([visual, visual])", "first(image)", "vision(image)[0]",
    "x = 1", "a + b", "f'{x}'", "prompt('a: ', caption)", "gathered(gathered(x))", "mean(mean(mean(image)))",
    "x: y: z", "#", "a #b", "%", "@", "`",
)  # fmt: skip
"""What values are replaced by."""
BYTES: Final = (
    b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\x85", b"\xe2\x80\xa8", b"\t",
    b"\x1b[2J", b"---\n", b"...\n", b"%YAML 3\n", b"\xf0\x9f\x98\x80", b"\xe2\x80\xae", b"\x7f",
)  # fmt: skip
SIGNS: Final = (
    "{", "}", "[", "]", ",", ": ", ":", " #", "'", '"', "\n", "  ", "- ", "*", "&", "!", "|", ">", "$", "=", "(", ")",
    ".", "~",
)  # fmt: skip
SHAPES: Final = (
    "{path}={value}", "{path}={value}", "{path}={value}", "+{path}={value}", "~{path}", "{path}", "{path}:{value}",
    "{path} {value}", "={value}",
)  # fmt: skip


@dataclass(frozen=True)
class Spoilt:
    """A file's bytes (none where built-in blueprints alone are named), and what stands on the command line."""

    file: bytes | None
    names: tuple[str, ...]
    overrides: tuple[str, ...]


def draw(random: Random) -> Spoilt:
    """A blueprint, mostly of a tiny paper, with mistakes in the file, on the command line, or both."""
    names = [name for name in texts() if "tasks/" not in name]
    base = random.choice([name for name in names if name.startswith("tiny/")] if random.random() < 0.8 else names)
    file = _file(random, base) if random.random() < 0.75 else None
    asked = [FILE if file is not None else base]
    if random.random() < 0.3:
        asked.append(random.choice([name for name in texts() if "tasks/" in name or "hybrids/" in name]))
    if random.random() < 0.05:
        asked.reverse()
    many = random.choice((1, 1, 2, 3) if file is None else (0, 0, 1, 2))
    return Spoilt(file, tuple(asked), tuple(_override(random, base) for _ in range(many)))


@cache
def texts() -> dict[str, str]:
    """The built-in blueprints."""
    return {name: (LIBRARY / f"{name}.yaml").read_text(encoding="utf-8") for name in builtin_names()}


@cache
def _words() -> tuple[str, ...]:
    return tuple(word for text in texts().values() for word in re.findall(r"\w+|[^\w\s]", text))


@cache
def _known_paths(base: str) -> tuple[str, ...]:
    """The paths of a blueprint."""
    return tuple(dotted(path) for path in paths(Blueprint.load(base).document.root))


@cache
def _leaves(base: str) -> dict[str, tuple[str, ...]]:
    """The paths of a blueprint's single values, with the values that stand under their last key anywhere in it."""
    root = Blueprint.load(base).document.root
    by_key: dict[str, set[str]] = defaultdict(set)
    keys: dict[str, str] = {}
    for path in paths(root):
        entry = find(root, path)
        if entry is not None and isinstance(entry.value, Scalar) and path[0] not in ("name", "title", "paper"):
            keys[dotted(path)] = path[-1]
            by_key[path[-1]].add(entry.value.text)
    return {path: tuple(sorted(by_key[key])) for path, key in keys.items()}


def _file(random: Random, base: str) -> bytes:
    if random.random() < 0.5:  # one's own, over a paper
        text = f"extends: {base if random.random() < 0.97 else random.choice(VALUES)}\n" + _own(random, base)
    else:
        text = texts()[base]
    for _ in range(random.choice((0, 0, 0, 1, 1, 1, 2, 4))):
        text = random.choice(_CHANGES)(random, text)
    data = text.encode("utf-8", "surrogatepass")
    if random.random() < 0.08:
        at = random.randrange(len(data) + 1)
        data = data[:at] + random.choice(BYTES) + data[at:]
    return data[: random.randrange(len(data) + 1)] if random.random() < 0.03 else data


def _own(random: Random, base: str) -> str:
    """A few settings of a file's own, nested as they stand in the paper."""
    lines = []
    for _ in range(random.choice((1, 1, 2))):
        path, value = _setting(random, base)
        keys = [f"{'  ' * depth}{part}:" for depth, part in enumerate(path.split("."))]
        lines.append("\n".join(keys) + f" {value}\n")
    return "".join(lines)


def _setting(random: Random, base: str) -> tuple[str, str]:
    """A path with a value that has stood there, or a small number, or anything."""
    if random.random() < 0.5:
        path = random.choice(tuple(_leaves(base)))
        return path, random.choice((*_leaves(base)[path], random.choice(("1", "2", "3", "8", "0.5", "none"))))
    return random.choice(_known_paths(base)), _value(random)


def _value(random: Random) -> str:
    return random.choice(VALUES) if random.random() < 0.7 else random.choice(_words())


def _override(random: Random, base: str) -> str:
    path, value = _setting(random, base)
    match random.randrange(10):
        case 0:
            starred = re.sub(r"\.\w+\.", ".*.", path)
            path = random.choice((path.rpartition(".")[2], f"{path}.x", starred, random.choice(VALUES), "x-a.b"))
        case 1:
            path = f"{path.split('.')[0]}.{random.choice(_words())}"
    shape = "{path}={value}" if random.random() < 0.6 else random.choice(SHAPES)
    return shape.format(path=path, value=value)


def _replace_word(random: Random, text: str) -> str:
    pieces = re.findall(r"\w+|\s+|[^\w\s]", text) or [""]
    pieces[random.randrange(len(pieces))] = random.choice(_words())
    return "".join(pieces)


def _replace_value(random: Random, text: str) -> str:
    places = list(re.finditer(r"(?<=: )[^\s{}\[\],#][^{}\[\],#\n]*|\[[^\[\]\n]*\]|\{[^{}\n]*\}", text))
    if not places:
        return text
    place = random.choice(places)
    return text[: place.start()] + random.choice(VALUES) + text[place.end() :]


def _put_sign(random: Random, text: str) -> str:
    at = random.randrange(len(text) + 1)
    return text[:at] + random.choice((*SIGNS, random.choice(VALUES))) + text[at + random.choice((0, 0, 1, 3, 20)) :]


def _change_lines(random: Random, text: str) -> str:
    lines = text.split("\n")
    at, to = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(to, lines[at])
        case 2:
            lines[at], lines[to] = lines[to], lines[at]
        case 3:
            lines[at] = random.choice(("  ", "\t", " ", "- ")) + lines[at]
        case _:
            lines[at] = lines[at].lstrip()
    return "\n".join(lines)


def _add_section(random: Random, text: str) -> str:
    return f"{text}\n" + _own(random, random.choice(("tiny/coca", "tiny/albef", "tiny/blip")))


_CHANGES: Final[tuple[Callable[[Random, str], str], ...]] = (
    _replace_word, _replace_value, _replace_value, _put_sign, _change_lines, _add_section,
)  # fmt: skip
