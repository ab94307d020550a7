"""Files to and from a browser: coursework at origins of its own, what is saved, what a form brings."""
