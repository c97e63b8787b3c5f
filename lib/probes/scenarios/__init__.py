"""Probes of more than one request: sessions, rotated keys, stopped parts."""
