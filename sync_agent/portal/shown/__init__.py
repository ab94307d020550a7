"""What the pages show, taken from the folds: classes, cards, hand-ins, names, how the exchange stands, proofs."""
