"""The bundle of a run: seal, sign, verify and compare it, and render its pages."""
