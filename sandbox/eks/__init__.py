"""The EKS API of the sandbox, in front of its real cluster."""
