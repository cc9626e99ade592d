"""Benchmarks: `python -m bench NAME --json [--quick]`. Figures are shown here, never asserted in timed tests."""
