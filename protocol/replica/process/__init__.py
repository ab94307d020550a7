"""A program of ours as a process: work beside work, errors nobody foresaw, memory given back, processes beside it."""
