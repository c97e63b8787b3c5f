"""Builds the programs, layers and images of the sandbox."""
