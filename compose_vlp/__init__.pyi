from compose_vlp.api import Blueprint
from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.run import Run, load
from compose_vlp.runtime.training.trainer import TrainOptions

__version__: str

__all__ = ["Blueprint", "BlueprintError", "Run", "TrainOptions", "UserError", "__version__", "load"]
