"""Networks as schools have them (R15): proxies, inspectors' certificates, sign-in pages, and what to do about each."""
