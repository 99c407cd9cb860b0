"""A hook of mkdocs that writes a page for every built-in kind, read off its class: ports, settings, promises."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from compose_vlp import registry
from compose_vlp.cli import kinds as words
from compose_vlp.graph.kinds import Kind, Pattern, Port, Setting
from compose_vlp.pages.markup import markdown_cell


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put a page for each kind below "Components" in the navigation."""
    for group in config.nav or []:
        for entry in next(iter(group.values())):
            if isinstance(entry, dict) and "Components" in entry:
                entry["Components"] = ["components/index.md", *_navigation()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the kinds and their index."""
    kinds = [registry.get(name) for name in registry.names()]
    files.append(File.generated(config, "components/index.md", content=index_page(kinds)))
    for kind in kinds:
        files.append(File.generated(config, f"components/{kind.name}.md", content=kind_page(kind)))
    return files


def _navigation() -> list[dict[str, list[str]]]:
    return [
        {title: [f"components/{name}.md" for name in registry.names(category)]}
        for category, title in words.CATEGORIES.items()
        if registry.names(category)
    ]


def index_page(kinds: Iterable[Kind]) -> str:
    """All kinds with their first sentence, by category."""
    grouped: dict[str, list[Kind]] = defaultdict(list)
    for kind in kinds:
        grouped[kind.category].append(kind)
    lines = [
        "# Components",
        "",
        "Every kind that a blueprint can `use`, or call by name. These pages are made from the classes themselves;",
        "`compose-vlp components NAME` prints the same.",
    ]
    for category, title in words.CATEGORIES.items():
        if grouped[category]:
            lines += ["", f"## {title}", "", "| kind | what it is |", "|---|---|"]
            lines += [
                f"| [`{kind.name}`]({kind.name}.md) | {markdown_cell(_summary(kind))} |" for kind in grouped[category]
            ]
    return "\n".join(lines) + "\n"


def kind_page(kind: Kind) -> str:
    """One kind: what its docstring says, then its ports, result, settings, shareable parts and promises."""
    lines = [f"# {kind.name}", "", kind.doc, ""]
    if kind.ports:
        lines += ["## Ports", "", "| port | takes | reaches | must be given |", "|---|---|---|---|"]
        lines += [_port_row(port) for port in kind.ports.values()]
        lines += ["", *_result(kind.returns)]
    if kind.settings:
        lines += ["## Settings", "", "| setting | type | default | bounds | what it is |", "|---|---|---|---|---|"]
        lines += [_setting_row(setting) for setting in kind.settings.values()]
        lines += [""]
    if kind.parts:
        lines += ["## Parts that can be shared", "", "| part | path |", "|---|---|"]
        lines += [f"| `{part}` | `{path}` |" for part, path in kind.parts.items()]
        lines += [""]
    if kind.traits.auxiliary:
        lines += ["## Losses of its own", "", f"{words.own_losses(kind)}, called as the settings that are weights.", ""]
    if kind.category == "component":
        lines += _promises(kind)
    lines += [f"Defined in `{kind.source}`.", ""]
    return "\n".join(lines)


def _port_row(port: Port) -> str:
    takes = " or ".join(f"`{kind}`" for kind in words.takes(port)) + (" (several)" if port.several else "")
    name = f"{port.name}=…" if port.open else port.name
    reaches = "no position (detached)" if port.detached else f"`{port.flow.name.lower()}`"
    must = "no" if port.open else "yes" if port.required else f"no, `{words.written(port.default)}`"
    return f"| `{name}` | {markdown_cell(takes)} | {reaches} | {markdown_cell(must)} |"


def _result(returns: Pattern | Mapping[str, Pattern] | None) -> list[str]:
    given = words.gives(returns)
    if given is None:
        return []
    if isinstance(given, str):
        return [f"Gives `{given}`.", ""]
    return ["Gives several values:", "", *(f"- `.{name}`: `{pattern}`" for name, pattern in given.items()), ""]


def _setting_row(setting: Setting) -> str:
    cells = (
        f"`{setting.name}`",
        f"`{words.type_of(setting)}`",
        _default(setting),
        words.bounds(setting),
        setting.description,
    )
    return "| " + " | ".join(markdown_cell(cell) for cell in cells) + " |"


def _default(setting: Setting) -> str:
    """In words where something else decides, as a value where there is one."""
    shown = words.default(setting)
    return shown if setting.inferred is not None or setting.default is ... else f"`{shown}`"


def _promises(kind: Kind) -> list[str]:
    held = [f"- {sentence}" for sentence in words.promises(kind.traits)]
    return ["## Promises", "", "What the compiler may rely on:", "", *held, ""] if held else []


def _summary(kind: Kind) -> str:
    return kind.doc.split("\n\n")[0].replace("\n", " ")
