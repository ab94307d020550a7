"""The program that territories run: a replica that everybody can reach."""
