"""The demonstrations: a simulated market, and a real experiment."""
