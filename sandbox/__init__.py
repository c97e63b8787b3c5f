"""An EKS on this machine: an AWS endpoint on loopback in front of real Kubernetes nodes."""
