"""`python -m streamer` is `sonostream`."""

from streamer.cli import main

main()
