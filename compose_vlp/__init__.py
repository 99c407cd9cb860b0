"""Vision-language pretraining as typed, checked and compiled blueprints."""
