"""What the probes found: results, baselines, tables and pictures."""
