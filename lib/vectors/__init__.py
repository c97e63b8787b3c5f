"""Public test vectors against the real Envoy's JWT filter."""
