"""Networks and the method's equations. Import the modules: `backbone` loads mmaction2, the others do not."""

__all__ = ["backbone", "heads", "losses", "reduction", "weights"]
