"""Steps 13 and 14: a person logs in with a browser, and logs out."""
