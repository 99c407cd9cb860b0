"""Expressions, substitution, kinds of values and checking: what a blueprint means, without a weight or a tensor."""
