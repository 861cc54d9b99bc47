"""Videos and pictures of events: clips, contact sheets, and videos with their scores drawn into them."""
