"""From the history to a registered bundle: datasets, fit, evaluate, register; the simulator."""
