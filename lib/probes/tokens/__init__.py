"""The tokens that the probes send: issued, built and forged."""
