"""What history is made of: entries, the payloads of each kind, what replaces what, and registers beside them."""
