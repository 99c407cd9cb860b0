"""What a whole blueprint may not do: leaks, losses, outputs, stages."""
