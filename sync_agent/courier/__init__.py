"""Courier disks: what goes onto a stick, what is taken from it, and what a stick in any state can do."""
