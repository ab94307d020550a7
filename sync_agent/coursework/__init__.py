"""Coursework on this device: published, read, and shown as ordinary files."""
