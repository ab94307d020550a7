"""The one SQLite store: its connection, its statements, what is still readable of a damaged one."""
