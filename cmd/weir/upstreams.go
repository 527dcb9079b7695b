package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/internal/ledger"
	"github.com/weirhq/weir/internal/server"
	"github.com/weirhq/weir/internal/telemetry"
	"github.com/weirhq/weir/internal/upstream"
	"github.com/weirhq/weir/router"
)

// completeFlags say how completions are made and accounted for.
type completeFlags struct {
	ledger     string
	scoreCache int
	timeout    time.Duration
	routeOnly  bool
}

func (f *completeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.ledger, "ledger", "", "ledger file, or memory (default: $WEIR_LEDGER, else weir/ledger.db in $XDG_STATE_HOME or ~/.local/state)")
	flags.IntVar(&f.scoreCache, "score-cache", router.DefaultScoreCache, "texts whose scores are kept; 0 for none")
	flags.DurationVar(&f.timeout, "complete-timeout", server.DefaultCompleteTimeout, "bound of a completion whose client set no shorter deadline")
	flags.BoolVar(&f.routeOnly, "route-only", false, "answer Route only: call no model and keep no ledger")
}

// completing is what a router needs to call models: nothing, with --route-only.
type completing struct {
	caller *upstream.Client
	ledger *ledger.Ledger
	cache  *router.ScoreCache
}

// open opens the ledger and makes the client. Close it after the server has stopped.
func (f *completeFlags) open(ctx context.Context, w world, logger *slog.Logger) (*completing, error) {
	out := &completing{}
	if f.scoreCache < 0 {
		return nil, usageError("--score-cache %d is negative: give a number of texts, 0 for none", f.scoreCache)
	}
	var err error
	if f.scoreCache > 0 {
		if out.cache, err = router.NewScoreCache(f.scoreCache); err != nil {
			return nil, err
		}
	}
	if f.routeOnly {
		return out, nil
	}
	client, err := upstream.New(upstream.Config{Getenv: w.getenv})
	if err != nil {
		return nil, err
	}
	out.caller = client
	out.ledger, err = openLedger(ctx, f.ledger, w.getenv, logger)
	return out, err
}

func (c *completing) close() error {
	if c.caller != nil {
		c.caller.CloseIdle()
	}
	if c.ledger == nil {
		return nil
	}
	return c.ledger.Close()
}

// join adds the parts to a router's config.
func (c *completing) join(cfg *router.Config, observer router.CompletionObserver) {
	cfg.ScoreCache, cfg.Completion = c.cache, observer
	if c.caller != nil { // an interface that holds a nil pointer is not nil
		cfg.Caller = c.caller
	}
	if c.ledger != nil {
		cfg.Ledger = c.ledger
	}
}

// serve adds what answers Complete and Usage to a server's config; through is
// the router with all that looks on.
func (c *completing) serve(cfg *server.Config, r *router.Router, through server.Completer, timeout time.Duration) {
	cfg.CompleteTimeout = timeout
	if c.caller != nil {
		cfg.Completer, cfg.Health = through, r.Health
	}
	if c.ledger != nil {
		cfg.Usage = c.ledger
	}
}

// observeCompletions counts and traces completions, and logs what a person must
// look at: money that could not be booked.
func observeCompletions(m *telemetry.Metrics, t *telemetry.Tracing, logger *slog.Logger) router.CompletionObserver {
	return &loggedCompletions{CompletionObserver: t.Completions(m), logger: logger}
}

type loggedCompletions struct {
	router.CompletionObserver
	logger *slog.Logger
}

// AttemptDone implements router.CompletionObserver.
func (o *loggedCompletions) AttemptDone(ctx context.Context, rec *router.Record, a *router.AttemptRecord, err error) {
	o.CompletionObserver.AttemptDone(ctx, rec, a, err)
	if err != nil && a.Outcome != router.FailureCancelled.String() {
		o.logger.Warn("attempt failed", "decision_id", rec.ID, "model", a.Model, "upstream", a.Upstream, "outcome", a.Outcome, "error", err)
	}
}

// CallDone implements router.CompletionObserver.
func (o *loggedCompletions) CallDone(ctx context.Context, rec *router.Record, done *router.Done, err error) {
	o.CompletionObserver.CallDone(ctx, rec, done, err)
	if errors.Is(err, router.ErrLedger) {
		o.logger.Error("a call could not be booked", "decision_id", rec.ID, "error", err)
	}
	if done != nil && done.Exceeded {
		o.logger.Warn("a provider billed more than the request allowed", "decision_id", rec.ID, "booked", done.Cost.String())
	}
}
