"""One source a file, each found by the name it registers."""
