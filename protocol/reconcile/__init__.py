"""How two replicas find out what either lacks: cursors and checkpoints, and Negentropy where these do not say it."""
