"""What passes between two devices of the school: calls both ways, an exchange, and the link that keeps both equal."""
