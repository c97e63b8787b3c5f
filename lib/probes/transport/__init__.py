"""The ways to send a probe: sockets, HTTP/2, curl in a pod."""
