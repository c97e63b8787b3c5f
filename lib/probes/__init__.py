"""Probes: requests with an expected answer. The tables list them; the runner sends them and judges the answers."""
