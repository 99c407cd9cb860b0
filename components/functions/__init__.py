"""Kinds without weights, state, randomness or settings: blueprints call them without declaring them."""
