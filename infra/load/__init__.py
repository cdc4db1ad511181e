"""Synthetic traffic for demo, tests and benchmarks, and the journal of what became of every event of it."""
