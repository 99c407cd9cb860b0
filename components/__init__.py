"""The built-in kinds, one folder for each sort of part, one file for each kind."""
