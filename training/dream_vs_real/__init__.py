"""The same policies in the dream and in the game: how far a dream can be trusted."""
