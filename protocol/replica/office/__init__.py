"""What an office does: spaces, people, invitations, rights, thefts, drills; for the server and a head's device."""
