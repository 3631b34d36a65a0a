//go:build tools

// Package conformance names the programs that go.mod pins.
package conformance

import _ "github.com/summerwind/h2spec/cmd/h2spec"
