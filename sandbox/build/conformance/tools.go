//go:build tools

// Package tools names the programs that are built from another module, so that go.mod keeps its pin.
package tools

import (
	_ "sigs.k8s.io/gateway-api/conformance"
	_ "sigs.k8s.io/gateway-api/conformance/echo-basic"
)
