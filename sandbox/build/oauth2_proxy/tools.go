//go:build tools

// Package tools names the program that is built from another module, so that go.mod keeps its pin.
package tools

import _ "github.com/oauth2-proxy/oauth2-proxy/v7"
