"""The papers' comparisons, rerun: `videogen-dream ablate`."""
