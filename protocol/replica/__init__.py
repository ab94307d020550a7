"""The replica at rest: one interface, in memory and on disk."""
