"""What the set says for good: who did what to rights and keys, what is forgotten, which proofs hold, drills."""
