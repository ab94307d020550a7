"""The program on every machine of a school: publishes, fetches, hands in, with or without a server."""
