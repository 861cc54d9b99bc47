"""Ablations: many settings of one experiment on shared features, to one table."""
