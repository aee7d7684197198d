"""`python -m reaas`: the same as the command `reaas`."""

from reaas.cli import main

main()
