"""GPT over codes: the transformer, its training contexts, and drawing one step after the other."""
