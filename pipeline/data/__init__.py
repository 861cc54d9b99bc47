"""Videos, their annotations, and which frames of them are used. No torch."""

__all__ = ["datasets", "decode", "manifest", "sampling", "shapes", "synthetic"]
