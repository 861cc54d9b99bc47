"""Adapters: one small module a data set, from its own files to the manifest."""

__all__ = ["csv"]
