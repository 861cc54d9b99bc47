"""Paths that tests use."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
"""Files of others to try things on; a test that uses them is skipped where they are not there."""
