"""What tells positions apart: what fills the slot `positions`."""
