"""Export a world as a folder of static files, in which it dreams in the visitor's browser."""
