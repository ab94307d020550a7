"""Entries at rest: the one SQLite store, its statements, what is readable of a damaged one; and a store in memory."""
