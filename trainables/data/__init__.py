"""The examples that trials learn from: random streams, splits, data sets."""
