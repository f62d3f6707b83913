"""Evaluation of a world model on held-out recordings; needs no env and no agent."""
