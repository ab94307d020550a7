"""What is sealed, to whom, and the codes that people keep: envelopes, hand-ins, kit, invitations, proofs."""
