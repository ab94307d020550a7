"""Entries, registers and packs of a space in one sealed file that anybody may carry."""
