"""Stage 1: from videos to feature maps in the cache."""
