"""`python -m train`: the same as `sonostream train`."""

import typer

from train.commands.train import train_command

if __name__ == "__main__":
    typer.run(train_command)
