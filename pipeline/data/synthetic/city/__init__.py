"""The generated city: twelve classes, each with a normal counterpart."""
