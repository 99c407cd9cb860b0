"""Features of earlier batches."""
