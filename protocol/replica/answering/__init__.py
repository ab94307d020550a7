"""The answering side of every call: what is taken, what goes back, what is asked for, and who is told."""
