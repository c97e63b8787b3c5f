"""Public test vectors, sent to the JWT filter of a real Envoy."""
