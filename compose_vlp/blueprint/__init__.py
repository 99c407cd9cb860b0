"""Reading a blueprint: text with places, merging, overrides, schemas and errors. Nothing here imports torch."""
