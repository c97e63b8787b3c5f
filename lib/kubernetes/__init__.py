"""The Kubernetes API: objects, manifests, port-forwards, and Services with a load balancer."""
