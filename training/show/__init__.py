"""What people look at: sampled videos, watched agents, the play page."""
