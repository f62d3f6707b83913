"""Import a user's own videos and action tables into stores."""
