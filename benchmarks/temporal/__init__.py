"""`sonostream bench temporal`: steadiness, truth and delay of smoothing, on sequences with ground truth."""
