"""The way to a server or a device: what an exchange needs of it, HTTP, and what is sealed inside."""
