"""Packs and deltas at rest: built, checked, stored, found, sent, made good."""
