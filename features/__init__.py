"""The interaction history and what is computed from it."""
