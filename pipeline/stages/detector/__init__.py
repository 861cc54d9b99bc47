"""A trained detector as one file: packed, read, described, and used."""
