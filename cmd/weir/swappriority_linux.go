package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// schedIdle is SCHED_IDLE: a thread that runs only where nobody else wants to, and
// that gives way at once to whoever wakes up.
const schedIdle = 5

// standBack makes the examining process run behind everything that serves: on one
// core at most, and with idle only on one that has nothing else to do. On Linux a priority is a thread's own,
// so that each of the runtime's threads has to be lowered: those that collect garbage
// or run goroutines later are among them. A thread that begins meanwhile has the
// priority of the one that began it; so this looks again until nothing was left to
// lower.
func standBack(idle bool) error {
	runtime.GOMAXPROCS(1)
	done := map[int]bool{}
	for {
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list this process's threads: %w", err)
		}
		lowered := 0
		for _, e := range entries {
			tid, err := strconv.Atoi(e.Name())
			if err != nil || done[tid] {
				continue
			}
			// Idle is beyond nice, and what a sandbox forbids more often.
			err = unix.Setpriority(unix.PRIO_PROCESS, tid, examNice)
			if err == nil && idle {
				err = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: schedIdle, Nice: examNice}, 0)
				if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
					err = nil
				}
			}
			if err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
				return fmt.Errorf("lower the priority: %w", err)
			}
			done[tid] = true
			lowered++
		}
		if lowered == 0 {
			return nil
		}
	}
}

// waitedForCore is how long a process's threads wanted to run and did not; 0 where that
// cannot be told.
func waitedForCore(pid int) (sum time.Duration) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0
	}
	for _, task := range tasks {
		raw, err := os.ReadFile(task)
		if err != nil {
			continue // that thread has ended
		}
		// Time on a core, time of waiting for one, turns.
		if fields := strings.Fields(string(raw)); len(fields) == 3 {
			ns, _ := strconv.ParseInt(fields[1], 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum
}
