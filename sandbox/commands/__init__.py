"""The commands of python -m sandbox, each a list of small actions."""
