"""A pack, wherever it lies: built, checked, sent, made good, and what of it outlives a part that is forgotten."""
