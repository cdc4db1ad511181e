"""`python -m infra.cli` is the `veilstream` command."""

from infra.cli import main

main()
