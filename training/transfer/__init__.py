"""The table of all players of the games: `videogen-dream benchmark transfer`."""
