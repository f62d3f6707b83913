"""The whole path, once (demo) or in rounds (loop)."""
