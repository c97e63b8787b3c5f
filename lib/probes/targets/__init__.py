"""What the probes are sent to: this mesh, or a mesh elsewhere."""
