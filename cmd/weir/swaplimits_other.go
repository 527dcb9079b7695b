//go:build !unix

package main

import "github.com/weirhq/weir/internal/swap"

// limitProcess does nothing where the system has no such bounds.
func limitProcess(*swap.Policy) error { return nil }
