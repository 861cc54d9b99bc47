"""Generated lessons for a small backbone: clips of moving things, and for every cell what is in it and how it moves."""
