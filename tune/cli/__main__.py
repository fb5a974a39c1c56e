"""`python -m tune.cli`."""

from tune.cli.main import main

main()
