"""Stage 4: from frame scores to events, and the thresholds by which they are found. It never looks at test labels."""
