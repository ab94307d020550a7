"""Keys of this device, of its person and of its spaces: whose they are, who confirms them, who is sealed to."""
