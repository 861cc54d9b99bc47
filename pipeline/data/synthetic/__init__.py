"""Generated videos with their ground truth: the fixture, the city, and moving shapes."""
