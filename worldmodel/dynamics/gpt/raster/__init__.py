"""Drawing a step in raster order: one token after the other, or several per pass by speculative decoding."""
