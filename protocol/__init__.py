"""What every replica agrees on: entries, rights, content, reconciliation, messages. Pure but for `protocol.replica`."""
