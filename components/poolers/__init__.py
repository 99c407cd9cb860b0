"""From many positions to few."""
