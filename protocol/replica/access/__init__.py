"""Access to what is held about a person: everything, in a form that a family can read."""
