"""Tokens and certificates as data: JWTs, X.509, and the authorities to trust."""
