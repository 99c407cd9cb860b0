"""One command a file: a function `command` (or a group `commands`) and `EXAMPLES`, which end its help."""
