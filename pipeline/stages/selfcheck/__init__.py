"""Whether an installation computes what it should, and how fast each part of it is on this machine."""
