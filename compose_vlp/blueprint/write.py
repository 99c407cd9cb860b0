"""A merged document as YAML that reads back to the same document, each line with the place that it came from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from compose_vlp.blueprint.document import SECTIONS, Document, is_expression
from compose_vlp.blueprint.names import names_read
from compose_vlp.blueprint.nodes import COMMAND_LINE, Entry, Items, Mapping, Node, Scalar
from compose_vlp.errors import Span
from compose_vlp.readable import UNSEEN

WIDTH = 110
"""An entry longer than this is written over several lines."""
COMMENT_COLUMN = 80
"""Where comments begin in a file."""
_SAFE_IN_FLOW = re.compile(r"(?=[^\s\-?:,\[\]{}#&*!|>'\"%@`])(?:[^\s,\[\]{}:#]|:(?=\S)|(?<=\S)#|(?<=\S) (?=[^\s#]))+\Z")
_SAFE_IN_BLOCK = re.compile(r"(?=[^\s\-?:,\[\]{}#&*!|>'\"%@`])(?:[^\s:#]|:(?=\S)|(?<=\S)#|(?<=\S) (?=[^\s#]))+\Z")
_NEGATIVE = re.compile(r"-[\d.][\d._eE+-]*\Z")


@dataclass(frozen=True)
class Line:
    """A line of the document: its YAML, the place of its values, and of what they replaced."""

    text: str
    origin: str = ""
    replaces: str = ""

    @property
    def comment(self) -> str:
        """`albef.yaml:31, replaces coca.yaml:12`; empty for lines that only open a block."""
        return f"{self.origin}, replaces {self.replaces}" if self.replaces else self.origin


def write(document: Document) -> str:
    """The document as one YAML file, with provenance as comments."""
    heading = f"# resolved from {', '.join(document.files)}\n" if document.files else ""
    return heading + "".join(_with_comment(line) for line in lines(document))


def lines(document: Document, width: int = WIDTH) -> list[Line]:
    """The document line by line, sections in the language's order; an entry longer than `width` is several lines."""
    written: list[Line] = []
    for entry in in_order(document.root):
        is_open = entry.name in SECTIONS and SECTIONS[entry.name].form == "entries"
        if is_open and isinstance(entry.value, Mapping) and entry.value.entries:
            section = Mapping(tuple(_standalone(entry.name, entry.value)), entry.value.span)
            written += [Line(""), *_block(Entry(entry.key, section), 0, width)]
        else:
            written += _entry(entry, 0, width)
    return written


def on_one_line(entry: Entry) -> str:
    """An entry with its whole value on one line."""
    return f"{_scalar(entry.key, in_flow=False)}: {_flow(entry.value, top=True)}"


def in_order(root: Mapping) -> list[Entry]:
    """The sections in the language's order, free ones last."""
    order = [*SECTIONS]
    return sorted(root, key=lambda entry: order.index(entry.name) if entry.name in order else len(order))


def _with_comment(line: Line) -> str:
    if not line.comment:
        return f"{line.text}\n"
    return f"{line.text:<{COMMENT_COLUMN}}  # {line.comment}\n"


# --- expressions that replaced others ---------------------------------------------------------------------------


def _standalone(section: str, entries: Mapping) -> Iterator[Entry]:
    """The entries without `previous`: the replaced expression stands in its place."""
    for entry in entries:
        if not is_expression((section, entry.name), entry.value):
            yield entry
            continue
        if section == "graph" and _calls_previous(entry):
            before = earlier_name(entry.name, entries)
            assert entry.earlier is not None, "what is called was replaced"
            yield Entry(Scalar(before, entry.earlier.key.span), _inlined(entry.earlier))
            yield Entry(entry.key, _inlined(entry, before), entry.earlier)
        else:
            yield Entry(entry.key, _inlined(entry), entry.earlier)


def earlier_name(name: str, taken: Mapping) -> str:
    """A name for a replaced expression that must have one, because it is called."""
    return next(new for new in (f"{name}_before{'_' * n}" for n in range(len(taken) + 2)) if new not in taken)


def _calls_previous(entry: Entry) -> bool:
    assert isinstance(entry.value, Scalar)
    return any(read.name == "previous" and read.called for read in names_read(entry.value.text))


def expression_text(entry: Entry) -> str:
    """An expression with what it replaced written out."""
    return _inlined(entry).text


def _inlined(entry: Entry, before: str = "") -> Scalar:
    value = entry.value
    assert isinstance(value, Scalar)
    text = value.text.strip()
    offset = value.text.index(text)
    for read in reversed(names_read(value.text)):
        if read.name == "previous" and not read.is_param and entry.earlier is not None:
            earlier = before or expression_text(entry.earlier)
            text = text[: read.start - offset] + earlier + text[read.end - offset :]
    return Scalar(text, value.span, value.style if "\n" in text or value.style != "literal" else "plain")


# --- YAML -------------------------------------------------------------------------------------------------------


def _entry(entry: Entry, depth: int, width: int) -> list[Line]:
    """One key with its value: on one line where it comes from one line, else a line for each field."""
    value = entry.value
    lead = f"{'  ' * depth}{_scalar(entry.key, in_flow=False)}:"
    if isinstance(value, Scalar) and "\n" in value.text.strip():
        return _literal(lead, value, entry, depth)
    text = f"{lead} {_flow(value, top=True)}"
    if isinstance(value, Scalar) or not _children(value):
        return [Line(text, place(value.span), _replaced(entry))]
    origins = {place(scalar.span) for scalar in _scalars(value)}
    if len(origins) == 1 and len(text) <= width and not _merged(value):
        return [Line(text, origins.pop(), _replaced(entry))]
    return _block(entry, depth, width)


def _block(entry: Entry, depth: int, width: int) -> list[Line]:
    block = [Line(f"{'  ' * depth}{_scalar(entry.key, in_flow=False)}:")]
    if isinstance(entry.value, Mapping):
        for child in entry.value:
            block += _entry(child, depth + 1, width)
    elif isinstance(entry.value, Items):
        indent = "  " * (depth + 1)
        block += [Line(f"{indent}- {_flow(item, top=True)}", place(item.span)) for item in entry.value]
    return block


def _literal(lead: str, value: Scalar, entry: Entry, depth: int) -> list[Line]:
    indent = "  " * (depth + 1)
    body = value.text.rstrip("\n").split("\n")
    opening = f"{lead} |" if value.text.endswith("\n") else f"{lead} |-"
    return [Line(opening, place(value.span), _replaced(entry)), *(Line(f"{indent}{row}".rstrip()) for row in body)]


def _flow(node: Node, *, top: bool = False) -> str:
    if isinstance(node, Scalar):
        return _scalar(node, in_flow=not top)
    if isinstance(node, Items):
        return f"[{', '.join(_flow(item) for item in node)}]"
    return f"{{{', '.join(f'{_scalar(entry.key, in_flow=True)}: {_flow(entry.value)}' for entry in node)}}}"


def _scalar(scalar: Scalar, *, in_flow: bool) -> str:
    text = scalar.text
    safe = _SAFE_IN_FLOW if in_flow else _SAFE_IN_BLOCK
    if scalar.style in ("plain", "broken") and (safe.match(text) or _NEGATIVE.match(text)):
        return text
    if any(map(_is_escaped, text)):
        return '"' + "".join(_escaped(character) for character in text) + '"'
    return "'" + text.replace("'", "''") + "'"


def _is_escaped(character: str) -> bool:
    """Tell whether YAML, or a person who looks at it, would take a character for something else than a sign."""
    return ord(character) < 32 or UNSEEN.match(character) is not None


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if _is_escaped(character):
        return {"\n": "\\n", "\t": "\\t"}.get(character, f"\\u{ord(character):04x}")
    return character


def place(span: Span) -> str:
    """`albef.yaml:31`; an override is `command line`, and a value that no file has stands on line 0 of its origin."""
    return span.file if span.file == COMMAND_LINE or not span.line else f"{span.file}:{span.line}"


def _replaced(entry: Entry) -> str:
    """Say where the value was that this one replaced, unless it said the same."""
    earlier = entry.earlier
    if earlier is None or _flow(earlier.value) == _flow(entry.value):
        return ""
    return place(earlier.value.span if isinstance(earlier.value, Scalar) else earlier.key.span)


def _children(node: Node) -> tuple[object, ...]:
    return node.entries if isinstance(node, Mapping) else node.items if isinstance(node, Items) else ()


def _scalars(node: Node) -> Iterator[Scalar]:
    """Keys and values: a line's comment speaks for both."""
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, Items):
        for item in node:
            yield from _scalars(item)
    else:
        for entry in node:
            yield from _scalars(entry.value)


def _merged(node: Node) -> bool:
    """Tell whether a field of this mapping replaced another, which its own line must say."""
    return isinstance(node, Mapping) and any(entry.earlier is not None for entry in node)
