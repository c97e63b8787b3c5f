"""What the notebooks call, step by step."""
