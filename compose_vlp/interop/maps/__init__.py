"""Name maps: what the tensors of a weight file are called in a component of ours, one format and kind a file."""
