"""Every token that must not pass, and every one that must: probes as data, what sends them, what answered."""
