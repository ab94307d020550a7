"""What every replica agrees on: encoding, keys, bounds, errors, and the rooms. Pure but for `protocol.replica`."""
