"""Names, expressions and settings: what stands in a blueprint."""
