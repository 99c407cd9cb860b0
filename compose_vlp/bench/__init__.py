"""How fast a stage's step is here: once, along the values of a setting, and in several processes."""
