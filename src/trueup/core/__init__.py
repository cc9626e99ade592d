"""The core decides and never does: pure values and functions over the standard library alone."""
