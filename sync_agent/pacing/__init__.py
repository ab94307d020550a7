"""How much of a line is used and when: budgets, what is metered, giving way to people."""
