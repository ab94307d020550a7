"""The school's network: finding the devices of the school, meeting them, and what passes between two of them."""
