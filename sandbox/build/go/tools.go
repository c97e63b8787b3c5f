//go:build tools

// Package tools names the programs that are built from other modules, so that go.mod keeps their pins.
package tools

import (
	_ "github.com/mccutchen/go-httpbin/v2/cmd/go-httpbin"
	_ "go.etcd.io/etcd/server/v3"
	_ "istio.io/istio/istioctl/cmd/istioctl"
	_ "istio.io/istio/pilot/cmd/pilot-agent"
	_ "istio.io/istio/pilot/cmd/pilot-discovery"
)
