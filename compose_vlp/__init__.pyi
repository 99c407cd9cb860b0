from compose_vlp.api import Blueprint
from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.run import Run, load

__all__ = ["Blueprint", "BlueprintError", "Run", "UserError", "load"]
