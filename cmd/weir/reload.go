package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/internal/server"
	"github.com/weirhq/weir/internal/telemetry"
	"github.com/weirhq/weir/internal/watch"
	"github.com/weirhq/weir/router"
)

// admin is what operators may change while Weir serves.
type admin struct {
	file    string
	getenv  func(string) string
	store   *router.Store
	metrics *telemetry.Metrics
	swaps   *telemetry.Swaps

	mu                       sync.Mutex
	configSince, bundleSince time.Time
}

// ReloadConfig implements server.Admin.
func (a *admin) ReloadConfig(context.Context) (string, bool, error) {
	if a.file == "" {
		return "", false, server.ErrConfigEmbedded
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	next, err := router.LoadConfig(a.file, a.getenv)
	if err != nil {
		a.swaps.Reload("refused")
		return "", false, fmt.Errorf("reload config: %w", err)
	}
	old, err := a.store.Publish(func(c classifier.Classifier, _ *router.Rules) (classifier.Classifier, *router.Rules, error) {
		return c, next, nil
	})
	if err != nil {
		a.swaps.Reload("refused")
		return "", false, fmt.Errorf("reload config: %w", err)
	}
	changed := old.Rules.Digest != next.Digest
	a.swaps.Reload(map[bool]string{true: "changed", false: "unchanged"}[changed])
	a.configSince = time.Now()
	a.showServing()
	return next.Digest, changed, nil
}

// showServing names what decides in the metrics.
func (a *admin) showServing() {
	snap := a.store.Acquire()
	defer snap.Release()
	a.metrics.Serving(snap.Classifier.Info().Digest, snap.Rules.Digest)
}

// Since implements server.Admin.
func (a *admin) Since() (config, bundle time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.configSince, a.bundleSince
}

// reload reloads the config and logs the outcome: one line, with every fault. A
// file that says what it said is no news.
func (a *admin) reload(ctx context.Context, logger *slog.Logger, why string) {
	digest, changed, err := a.ReloadConfig(ctx)
	switch {
	case errors.Is(err, server.ErrConfigEmbedded) && why != hangup:
	case err != nil:
		logger.Error("config refused, the old one keeps deciding", "error", err, "because", why)
	case changed || why == hangup:
		logger.Info("config reloaded", "config_digest", digest, "changed", changed, "because", why)
	}
}

const (
	hangup      = "SIGHUP"
	fileChanged = "the file changed"
)

// follow reloads the config when its file changes, and at every SIGHUP, when it
// rereads the bundle as well, until the returned function is called, which waits
// for the last reload.
func (a *admin) follow(ctx context.Context, logger *slog.Logger, s *swapping) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	stop = func() {
		cancel()
		wg.Wait()
	}
	if s.flags.watch && a.file != "" {
		w, err := watch.New(watch.Config{
			Paths: []string{a.file}, AtStart: true, Logger: logger, Debounce: s.flags.debounce,
			Changed: func(ctx context.Context) { a.reload(ctx, logger, fileChanged) },
		})
		if err != nil {
			stop()
			return nil, err
		}
		wg.Go(func() { _ = w.Run(ctx) }) // it never fails
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	wg.Go(func() {
		defer signal.Stop(hangups)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				a.reload(ctx, logger, hangup)
				s.reread(ctx, hangup)
			}
		}
	})
	return stop, nil
}
