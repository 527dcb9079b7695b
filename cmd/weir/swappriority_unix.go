//go:build unix && !linux

package main

import (
	"fmt"
	"runtime"
	"syscall"
)

// standBack makes the examining process go behind everything that serves, on one
// core at most; these systems have no idle priority.
func standBack(bool) error {
	runtime.GOMAXPROCS(1)
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, examNice); err != nil {
		return fmt.Errorf("lower the priority: %w", err)
	}
	return nil
}
