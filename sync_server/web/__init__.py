"""The administrators' pages: HTTP in, handlers out, HTML made here. They change nothing of a territory.

What an address means lies in `pages`; who may see it in `door` and `signing_in`; the words in `locale/`.
"""
