"""Being let in: by a code, by a neighbour, by a stick."""
