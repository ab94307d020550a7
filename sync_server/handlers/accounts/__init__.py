"""Who may look at the pages of administrators, and what proves that it is them."""
