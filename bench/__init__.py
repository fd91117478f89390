"""Benchmarks: how fast, how small and how sure the product is. `python -m bench` prints one table."""
