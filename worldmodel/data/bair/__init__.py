"""BAIR robot pushing: the archive's records, read and written without TensorFlow."""
