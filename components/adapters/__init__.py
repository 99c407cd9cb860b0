"""Adapters: what stands in the place of linear maps that a blueprint's section `adapters` names."""
