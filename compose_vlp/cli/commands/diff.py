"""`compose-vlp diff`: what two blueprints mean differently."""

from __future__ import annotations

from rich.text import Text

from compose_vlp.api import Blueprint
from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Json, Plugins, Words, import_plugins, sort_words
from compose_vlp.errors import UserError

EXAMPLES = (
    ("two blueprints", "compose-vlp diff coca_base coca_large"),
    ("what changes on the command line do", "compose-vlp diff coca 'inputs.image.size=576' ~losses.contrastive"),
)
STYLES = {"+": "green", "-": "red", "~": "yellow"}


def command(words: Words, plugins: Plugins = None, as_json: Json = False) -> None:
    """Compare what two blueprints mean.

    Of two blueprints A and B the changes from A to B are printed; changes on the command line belong to B. With one
    blueprint, it is compared with itself after the changes. `a+b` is one blueprint merged from two. Order, quotes and
    ways of writing a number do not count.
    """
    from compose_vlp.blueprint.diff import diff

    import_plugins(plugins)
    request = sort_words(words)
    if len(request.blueprints) > 2:
        raise UserError(
            f"{len(request.blueprints)} blueprints; two can be compared",
            hints=("`a+b` is one blueprint merged from two, as in `compose-vlp diff albef albef+tasks/vqa_generate`",),
        )
    before = Blueprint.load(*request.blueprints[0].split("+"))
    after = Blueprint.load(*request.blueprints[-1].split("+"), overrides=request.overrides)
    for blueprint in (before, after):
        blueprint.raise_problems()
    changes = diff(before.document, after.document)
    if as_json:
        print_json([change.as_data() for change in changes])
        return
    console = out()
    for change in changes:
        console.print(Text(str(change), style=STYLES[change.sign]), soft_wrap=True)
    if not changes:
        console.print(f"{before.name} and {after.name} mean the same")
