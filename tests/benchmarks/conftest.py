"""Benchmarks are programs: pytest collects none of them, nor looks for doctests in them."""

collect_ignore_glob = ["*.py"]
