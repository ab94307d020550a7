"""The server's commands over an opened server: parameters in, JSON out, and what people type for an id."""
