"""Modules that several kinds are made of; no kinds themselves."""
