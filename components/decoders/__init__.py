"""Towers whose words see only what comes before them."""
