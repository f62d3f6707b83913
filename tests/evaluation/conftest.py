from tests.training.conftest import i3d_file, store, world

__all__ = ["i3d_file", "store", "world"]
