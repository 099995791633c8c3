"""A run is a folder: what was asked for, and how far it has got."""
