"""Stage 4: score tables against the annotated intervals, and the summary of all runs."""
