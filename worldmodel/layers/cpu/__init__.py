"""Processors' own ways: attention, losses and dropout that are faster there, and memory settings."""
