"""From a checked blueprint to programs: plain Python source over shared modules."""
