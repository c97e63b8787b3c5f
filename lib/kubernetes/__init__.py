"""The cluster as the Kubernetes API shows it: objects, manifests, port-forwards, load balancer Services."""
