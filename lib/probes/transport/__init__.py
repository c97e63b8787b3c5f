"""How a probe reaches the mesh: sockets, HTTP/2, curl in a pod."""
