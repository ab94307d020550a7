"""The command line: what each command is called, what it reads of the caller's, and writes for them."""
