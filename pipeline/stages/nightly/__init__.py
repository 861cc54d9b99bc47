"""Stage 6: what has come into an inbox is scored by a detector every night, once, into a dataset that grows by days."""
