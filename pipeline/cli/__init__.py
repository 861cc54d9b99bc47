"""The command `gig`: `main` has the group and the stages, the other modules one command or group each."""
