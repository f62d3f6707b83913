"""Recording episodes of games into a store."""
