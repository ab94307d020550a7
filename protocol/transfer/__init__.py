"""Content on its way: chunks, packs, deltas against what the other side has, files seen from inside."""
