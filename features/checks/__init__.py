"""Checks of the data that come in, by name: schema, ranges, duplicates, clocks, variance, drift."""
