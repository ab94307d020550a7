"""Looking after what lies here: verified, repaired, destroyed once it is due."""
