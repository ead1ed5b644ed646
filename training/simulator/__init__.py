"""A simulated market whose true response is known."""
