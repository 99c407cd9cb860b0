"""Asking a trained model: its outputs, generation, ranking, relevance."""
