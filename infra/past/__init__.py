"""Stored rows brought under the rules that their site has today: `run` does it, for each kind of data."""
