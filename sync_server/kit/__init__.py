"""The kit between the command that has it and the program with the store: what is asked, signed, and opened."""
