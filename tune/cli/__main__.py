"""`python -m tune.cli`."""

from tune.cli.start import main

main()
