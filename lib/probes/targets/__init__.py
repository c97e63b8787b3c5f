"""The targets of the probes: this mesh, or another mesh."""
