"""What the kit is fetched for: a territory begins, keys take over, what was held back counts, a class is over."""
