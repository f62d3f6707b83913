"""Reading images, videos and arrays as uint8 frames, and writing videos."""
