"""What two replicas say to each other, parsed once, and how it lies in HTTP."""
