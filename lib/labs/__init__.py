"""The labs: make a fault on purpose, show it, repair it."""
