"""The results of the probes, with baselines, tables and pictures."""
