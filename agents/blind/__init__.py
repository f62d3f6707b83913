"""Policies that see nothing: the baselines that need no learning."""
