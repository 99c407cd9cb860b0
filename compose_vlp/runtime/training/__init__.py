"""Training a blueprint through its stages."""
