"""Building blocks shared by tokenizers and dynamics."""
