"""What there is and how it is: schools, classes, devices, hand-ins, for pages, commands and monitoring."""
