"""Policies that ignore observations: baselines without learning."""
