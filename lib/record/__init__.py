"""What a run records while it goes on: events, checks, verdicts, evidence."""
