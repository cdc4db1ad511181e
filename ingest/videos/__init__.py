"""The video API: jobs in, their state out. A service of its own, so that it never slows tracking down."""
