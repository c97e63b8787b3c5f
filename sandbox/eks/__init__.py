"""EKS's API over the sandbox's clusters."""
