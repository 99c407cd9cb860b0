"""Tracking that never holds up a run: an outbox on disk, and a process that brings it to MLflow."""

from compose_vlp.tracking.environment import environment_tags, versions
from compose_vlp.tracking.layout import TrackSettings
from compose_vlp.tracking.outbox_tracker import OutboxTracker, add_to_run
from compose_vlp.tracking.records import DataSet, Model
from compose_vlp.tracking.sync import how_to_look, mlflow_run_id, sync, tracked_folder
from compose_vlp.tracking.tracker import NullTracker, Tracker, ending_of

__all__ = [
    "DataSet",
    "Model",
    "NullTracker",
    "OutboxTracker",
    "TrackSettings",
    "Tracker",
    "add_to_run",
    "ending_of",
    "environment_tags",
    "how_to_look",
    "mlflow_run_id",
    "sync",
    "tracked_folder",
    "versions",
]
