"""Who may write what, and whose word counts: the door, the roster, revocations, confirmed devices."""
