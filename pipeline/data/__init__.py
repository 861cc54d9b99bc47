"""Videos, their annotations, and which of their frames are used. Imports no torch."""
