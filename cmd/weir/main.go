// Command weir routes prompts: it serves the decision over gRPC, and the same
// decision, scores and checks from the command line. `weir help` lists the
// verbs. This file only maps the world onto run; each verb has a file.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes, the same for every verb.
const (
	exitOK = iota
	// exitFailed: the verb could not do its work.
	exitFailed
	// exitUsage: wrong flags or arguments.
	exitUsage
	// exitFaults: what was checked, or some of what was read, has faults.
	exitFaults
)

// version is set by the build.
var version = "dev" //nolint:gochecknoglobals // the linker needs a variable

// world is what a process has; tests give their own.
type world struct {
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], world{os.Getenv, os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run runs one command line and returns the exit code.
func run(ctx context.Context, args []string, w world) int {
	root := rootCommand(w)
	root.SetArgs(args)
	root.SetIn(w.stdin)
	root.SetOut(w.stdout)
	root.SetErr(w.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(w.stderr, "weir:", err)
	var coded *codedError
	if errors.As(err, &coded) {
		return coded.code
	}
	return exitFailed
}

// codedError is an error that asks for an exit code of its own.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

func faultsError(err error) error { return &codedError{exitFaults, err} }
