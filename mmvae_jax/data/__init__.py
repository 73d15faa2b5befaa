"""Data sets: one file a data set, batching in one place."""
