"""A data folder and what it is once opened: keys, the replica, what is remembered of devices and prepared."""
