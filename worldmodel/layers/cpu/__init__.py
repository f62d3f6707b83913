"""What only processors (CPUs) need: their features, weight layouts, attention, losses, dropout and memory settings."""
