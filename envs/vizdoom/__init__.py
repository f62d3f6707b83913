"""ViZDoom as Gymnasium environments."""
