"""Building blocks that tokenizers and dynamics share."""
