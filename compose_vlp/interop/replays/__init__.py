"""How one recorded step of each format is run again with our modules."""
