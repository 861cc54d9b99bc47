"""What all stages share: where outputs lie, how they are written, and what was left out."""
