"""`python -m train.ablations`: trains the papers' ablations, row by row, and tabulates them.

The rows are in train/recipes/ablations.toml. Every row is a run of its own, with its report; a fold that is
done is not trained again, one that was interrupted goes on.
"""
