"""What a device does of its school: its head teacher's office, drills and quarantine, sign-in on shared machines."""
