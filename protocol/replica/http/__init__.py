"""A responder over HTTP: what a server and a listener on the LAN have in common (docs/protocol.md, "HTTP")."""
