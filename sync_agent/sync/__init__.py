"""One sync, with the server or a device: what is asked, what comes back, and how two sets are made equal."""
