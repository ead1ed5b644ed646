"""Segments: who satisfies stacked conditions on behaviour, orders, devices, permissions and time."""
