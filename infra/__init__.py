"""How veilstream is run: the command, the local stack, and what every process shares."""
