"""Data: sources of records, pictures and words as tensors, and batches that can be had again."""

from compose_vlp.data.source import BadRecord, Encoded, Record, Source, open_source
from compose_vlp.registry import Settings, source

__all__ = ["BadRecord", "Encoded", "Record", "Settings", "Source", "open_source", "source"]
