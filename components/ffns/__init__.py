"""Feed-forward halves of layers: what fills the slot `ffn`."""
