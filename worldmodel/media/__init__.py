"""Read pictures, films and arrays as uint8 frames; write videos."""
