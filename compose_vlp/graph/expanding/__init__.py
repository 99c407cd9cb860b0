"""From expressions to typed calls: substitution, arguments, sizes."""
