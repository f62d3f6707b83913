from tests.training.conftest import i3d_file, store, unrendered, world

__all__ = ["i3d_file", "store", "unrendered", "world"]
