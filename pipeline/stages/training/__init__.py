"""Stage 2: heads trained on the cached maps."""
