"""A replica at work: what comes through the door, what waits beside it, and what the set comes to, read."""
