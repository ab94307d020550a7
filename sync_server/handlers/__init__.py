"""The rules of a server: what may be asked, what is written for it. No HTTP, no command line."""
