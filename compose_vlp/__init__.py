"""Vision-language pretraining as typed, checked and compiled blueprints.

Its names are imported when they are first asked for, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers, who ask for everything
    from compose_vlp.api import Blueprint
    from compose_vlp.errors import BlueprintError, UserError
    from compose_vlp.run import Run, load
    from compose_vlp.runtime.training.trainer import TrainOptions

_HOMES = {
    "Blueprint": "compose_vlp.api",
    "BlueprintError": "compose_vlp.errors",
    "UserError": "compose_vlp.errors",
    "Run": "compose_vlp.run",
    "TrainOptions": "compose_vlp.runtime.training.trainer",
    "load": "compose_vlp.run",
}

__all__ = ["Blueprint", "BlueprintError", "Run", "TrainOptions", "UserError", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("compose-vlp")
    if name not in _HOMES:
        raise AttributeError(f"module 'compose_vlp' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
