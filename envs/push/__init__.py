"""Robot pushing, BAIR-style, as a Gymnasium environment."""
