"""Fuzzing of the collector: what is sent (`inputs`), how (`clients`), and what must hold afterwards (`laboratory`)."""
