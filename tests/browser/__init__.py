"""A real browser before a real collector: what only a browser decides, such as whether an answer may be read."""
