"""From several sequences to one that knows of all of them."""
