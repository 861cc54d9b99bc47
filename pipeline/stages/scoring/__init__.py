"""Stage 3: score tables, one row per frame."""
