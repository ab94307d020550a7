"""Pupils' work: begun, handed in, sealed for its readers, copied for safety, given back."""
