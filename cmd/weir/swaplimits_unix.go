//go:build unix

package main

import (
	"fmt"
	"syscall"

	"github.com/weirhq/weir/internal/swap"
)

// examNice makes the examining process stand back behind everything that serves.
const examNice = 19

// limitProcess bounds this process's memory and lets others go first.
func limitProcess(p *swap.Policy) error {
	if err := standBack(p.Priority == swap.PriorityIdle); err != nil {
		return err
	}
	// A crash is told by its signal; a core file of a prompt's memory is not wanted.
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("switch core files off: %w", err)
	}
	if p.MaxMemoryBytes <= 0 || raceDetector {
		return nil // the race detector maps terabytes
	}
	most := uint64(p.MaxMemoryBytes)
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
		return fmt.Errorf("bound the memory: %w", err)
	}
	return nil
}
