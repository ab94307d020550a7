"""The pages that pupils and teachers have: items, work handed in, who sits here, other computers."""
