"""Pictures of what the highest scores rest on."""
