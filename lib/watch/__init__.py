"""A standing proof: a CronJob in the cluster repeats probes, and each control has the age of its last proof."""
