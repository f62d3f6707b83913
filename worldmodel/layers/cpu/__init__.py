"""CPU-specific code: processor features, weight layouts, attention, losses, dropout and memory settings."""
