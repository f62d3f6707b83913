"""Stores out of a user's own videos and tables of actions."""
