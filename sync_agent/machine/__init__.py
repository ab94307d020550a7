"""What this machine is, has and remembers, on which all else stands."""
