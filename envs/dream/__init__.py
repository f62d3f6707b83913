"""Dream environments: a world model stepped as Gymnasium environments."""
