"""Looking after what lies here: destroyed once it is due, made anew where its database is damaged."""
