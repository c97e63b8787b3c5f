"""The functions that the notebooks call, by step and subject."""
