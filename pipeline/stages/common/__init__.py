"""What all stages share: where outputs lie, how they are written, and which videos are left out."""
