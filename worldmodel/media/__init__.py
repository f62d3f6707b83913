"""Pictures and films in files: what opens them, and what brings their pixels to bytes."""
