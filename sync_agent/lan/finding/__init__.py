"""Which devices of the school there are: by multicast, or where they were met before, and which become neighbours."""
