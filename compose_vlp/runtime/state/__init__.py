"""What a run keeps: its folder, checkpoints, generators."""
