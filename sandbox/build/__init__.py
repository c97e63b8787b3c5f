"""What the sandbox builds: programs, layers, images."""
