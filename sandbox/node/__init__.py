"""One Kubernetes node: certificates, command lines, controllers, the authenticator."""
