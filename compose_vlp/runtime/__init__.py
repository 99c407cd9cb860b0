"""Running a plan: stages, the loop, checkpoints and run folders."""
