"""Watched folders: what a teacher puts there is published, once it has settled."""
