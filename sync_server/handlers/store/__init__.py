"""What lies on this server: backed up, come out of a backup, whole or not, and what is to be said of it."""
