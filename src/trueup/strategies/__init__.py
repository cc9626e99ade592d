"""Strategies: pure functions from views to wishes."""
