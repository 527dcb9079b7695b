package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/weirhq/weir/internal/ledger"
)

// ledgerOff keeps the ledger in memory only.
const ledgerOff = "memory"

// ledgerPath resolves where the ledger is: the flag, $WEIR_LEDGER, else a fixed
// place of the user's own. Not the working directory: money that was spent must
// be found again wherever the server is started next.
func ledgerPath(flag string, getenv func(string) string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if path := getenv("WEIR_LEDGER"); path != "" {
		return path, nil
	}
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "weir", "ledger.db"), nil
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "weir", "ledger.db"), nil
	}
	return "", usageError("no place for the ledger: give --ledger PATH or set WEIR_LEDGER; --ledger %s keeps it until the server stops", ledgerOff)
}

// openLedger opens the ledger that the flag names and says in the log what it
// found. The caller closes it after the server has stopped.
func openLedger(ctx context.Context, flag string, getenv func(string) string, logger *slog.Logger) (*ledger.Ledger, error) {
	path, err := ledgerPath(flag, getenv)
	if err != nil {
		return nil, err
	}
	if path == ledgerOff {
		path = ""
		logger.Warn("the ledger is in memory: budgets and usage start anew with the process")
	}
	l, err := ledger.Open(ctx, ledger.Config{Path: path})
	if err != nil {
		return nil, err
	}
	r := l.Recovery()
	if r.Calls > 0 {
		logger.Warn("calls were open when the last process died: closed as unknown, their bounds charged", "calls", r.Calls, "charged", r.Charged.String(), "unpriced", r.Unpriced)
	}
	if r.Drift != 0 {
		logger.Error("the ledger's counters were away from its rows and were put right: did something else write the file?", "by", r.Drift.String())
	}
	logger.Info("ledger", "path", path)
	return l, nil
}
