"""The labs: faults made on purpose, and healed."""
