"""HTTP in, handlers out. What an address means lies in `routes`; no rule of the server does."""
