"""What the entries of a space come to: coursework, measures, sign-in, keys, what is to be destroyed."""
