"""How a program lives as a service of its system: told apart from a terminal, watched, logged, and installed."""
