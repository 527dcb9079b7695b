// Package router turns scores into a decision.
//
// A Router holds a Store with the serving Snapshot: a classifier and Rules, the
// catalog and policies of one config. Route leases the snapshot, scores the
// prompt under a short deadline of its own, lets Rules.Decide choose a model,
// gives the lease back and writes the journal. A classifier that fails in time
// does not fail the request: the policy's unscored tier answers, and the
// decision says so. Next tells which candidate follows when one fails. A new
// config or model is published whole through the Store; what was leased before
// sees the old pair to its end.
//
// Decide is pure, so that a replay of recorded prompts is the service itself.
// Money is integers (NanoUSD). The package knows neither the wire, nor any
// provider's dialect, nor ONNX.
package router

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weirhq/weir/classifier"
)

// Request is a prompt with its constraints.
type Request struct {
	// Messages is the chat; a plain prompt is one message of the user.
	Messages []classifier.Message
	// MediaParts counts images, audio and documents; OtherBytes is the size of
	// text that is not in Messages: tool definitions, calls and results.
	MediaParts, OtherBytes int
	// Demand holds the constraints; Route fills in its scores and tokens.
	Demand                    Demand
	SessionID, ConversationID string
	Metadata                  map[string]string
	// Intent is what the caller says that the prompt is for; rules look at it.
	Intent  string
	Explain bool
}

// Observer is told of every decision. Implementations must not block.
type Observer interface {
	// Routed reports a decision, or the error in place of one (then only the
	// record's times and digests count).
	Routed(r *Record, err error)
}

// Config is what a Router is made of. Store, Journal, Now and NewID are required.
type Config struct {
	Store   *Store
	Journal Journal
	// Now and NewID give the time and a new decision's id.
	Now   func() time.Time
	NewID func() string
	// ClassifyTimeout bounds scoring, the wait for a free core included; 0
	// means DefaultClassifyTimeout.
	ClassifyTimeout time.Duration
	Observer        Observer

	// Caller calls providers; without it Complete answers ErrNoUpstream.
	Caller Caller
	// Ledger keeps what completions cost; nil keeps nothing, and refuses
	// idempotency keys and budgets.
	Ledger     Ledger
	Completion CompletionObserver
	// Random gives numbers of [0, 1), safe for concurrent use; nil means
	// math/rand/v2. Only the choice among deployments and back-off use it.
	Random func() float64
	// ScoreCache keeps scores of texts seen before; nil for none.
	ScoreCache *ScoreCache
	// Sessions remembers the turns of sessions; nil for a MemorySessions of
	// DefaultSessionCapacity.
	Sessions SessionStore
}

// DefaultClassifyTimeout is far above the fast lane's fraction of a millisecond
// and far below what a caller notices beside a model's answer.
const DefaultClassifyTimeout = 250 * time.Millisecond

// Router routes. Make one by New. It is safe for concurrent use.
type Router struct {
	cfg    Config
	health health
}

// New checks the config and makes a router. It starts nothing.
func New(cfg Config) (*Router, error) {
	var faults []error
	if cfg.Store == nil {
		faults = append(faults, errors.New("store is nil"))
	}
	if cfg.Journal == nil {
		faults = append(faults, errors.New("journal is nil"))
	}
	if cfg.Now == nil || cfg.NewID == nil {
		faults = append(faults, errors.New("now and new id are both needed"))
	}
	if cfg.ClassifyTimeout < 0 {
		faults = append(faults, fmt.Errorf("classify timeout is %s, want a positive duration", cfg.ClassifyTimeout))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	if cfg.ClassifyTimeout == 0 {
		cfg.ClassifyTimeout = DefaultClassifyTimeout
	}
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	if cfg.Sessions == nil {
		cfg.Sessions = NewMemorySessions(DefaultSessionCapacity)
	}
	return &Router{cfg: cfg}, nil
}

// Route decides which model a prompt should go to. Errors: those of
// Rules.Decide; classifier.ErrInvalidText, ErrNoContent and ErrOverloaded
// wrapped; the cause of ctx when the caller gave up.
func (r *Router) Route(ctx context.Context, req *Request) (Record, error) {
	rec, _, err := r.route(ctx, req)
	return rec, err
}

// route also returns the rules that decided: they need no lease.
func (r *Router) route(ctx context.Context, req *Request) (Record, *Rules, error) {
	start := r.cfg.Now()
	snap := r.cfg.Store.Acquire()
	defer snap.Release()
	rec := Record{
		Time: start, Explain: req.Explain, SessionID: req.SessionID, ConversationID: req.ConversationID, Metadata: req.Metadata,
		BundleDigest: snap.Classifier.Info().Digest, ConfigDigest: snap.Rules.Digest, Propensity: 1,
		CallableUpstreams: snap.Rules.callable,
	}
	err := r.decide(ctx, snap, req, &rec)
	rec.Total = r.cfg.Now().Sub(start)
	if err == nil {
		rec.ID = r.cfg.NewID()
		r.remember(&rec)
		r.cfg.Journal.Append(rec.kept())
	}
	if r.cfg.Observer != nil {
		r.cfg.Observer.Routed(&rec, err)
	}
	if err != nil {
		return Record{}, snap.Rules, fmt.Errorf("route: %w", err)
	}
	return rec, snap.Rules, nil
}

func (r *Router) decide(ctx context.Context, snap *Snapshot, req *Request, rec *Record) error {
	text := classifier.Render(req.Messages)
	rec.Demand = req.Demand
	d := &rec.Demand
	d.Explain = d.Explain || req.Explain
	d.BundleDigest = rec.BundleDigest
	d.UnscoredTokens = unscoredTokens(req, len(text))
	if d.InSession = req.SessionID != ""; d.InSession {
		d.Session = r.cfg.Sessions.Recall(req.SessionID, rec.Time, snap.Rules.Sessions)
	}
	skip := applyRule(snap.Rules, req, d, text)
	begin := r.cfg.Now()
	var err error
	switch {
	case skip:
		rec.ScoringError = scoringSkipped
		d.UnscoredTokens += bytesToTokens(len(text))
	case text == "" && classifier.MediaOnly(req.Messages):
		rec.ScoringError = scoringMediaOnly
	default:
		err = r.scoreInto(ctx, snap.Classifier, text, rec)
	}
	rec.Classify = r.cfg.Now().Sub(begin)
	if err != nil {
		return err
	}
	begin = r.cfg.Now()
	rec.Decision, err = snap.Rules.Decide(*d)
	rec.Decide = r.cfg.Now().Sub(begin)
	if err != nil {
		return err
	}
	if dep, ok := d.Provider.FirstDeployment(rec.Decision.Chosen.Model); ok {
		rec.Provider = dep.Upstream.ID
	}
	return nil
}

// applyRule notes the config's rule that matches, and tells whether it goes
// without a score.
func applyRule(rules *Rules, req *Request, d *Demand, text string) (skip bool) {
	if len(rules.Rules) == 0 {
		return false
	}
	rule := rules.match(&asked{
		text: classifier.LastAsk(req.Messages), request: req, tokens: d.UnscoredTokens + bytesToTokens(len(text)),
	})
	if rule == nil {
		return false
	}
	d.Rule = rule.ID
	// A request that names a model or tier itself is scored all the same: the
	// rule's are left aside.
	return rule.Then.SkipScoring && len(d.Override.Models) == 0 && d.Override.Tier == 0
}

// scoreInto scores the text for the record's demand. It returns an error only
// where the request cannot go on without a score.
func (r *Router) scoreInto(ctx context.Context, c classifier.Classifier, text string, rec *Record) error {
	d := &rec.Demand
	scores, cached, err := r.score(ctx, c, text)
	rec.ScoreCached = cached
	switch {
	case err == nil:
		d.Scores, d.Scored = scores, true
		d.UnscoredTokens += max(leastTokens(text)-int64(scores.InputTokens), 0)
		return nil
	case !survivable(ctx, err):
		return err
	default:
		rec.ScoringError = scoringError(err)
		d.UnscoredTokens += bytesToTokens(len(text))
		return nil
	}
}

// remember adds the decision to its session.
func (r *Router) remember(rec *Record) {
	if rec.SessionID == "" {
		return
	}
	c := &rec.Decision.Chosen
	r.cfg.Sessions.Remember(rec.SessionID, SessionTurn{Model: c.Model.ID, Need: rec.Decision.Need, InputTokens: c.InputTokens, Time: rec.Time})
}

var errScoringTimeout = errors.New("scoring took too long")

func (r *Router) score(ctx context.Context, c classifier.Classifier, text string) (s classifier.Scores, cached bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.cfg.ClassifyTimeout, errScoringTimeout)
	defer cancel()
	return r.cfg.ScoreCache.classify(ctx, c, text)
}

// survivable tells whether a request goes on without scores: not when its text
// is at fault, when the server is overloaded (sending a flood to the dearest
// tier would turn overload into a bill), or when the caller gave up.
func survivable(ctx context.Context, err error) bool {
	return ctx.Err() == nil &&
		!errors.Is(err, classifier.ErrInvalidText) && !errors.Is(err, classifier.ErrNoContent) && !errors.Is(err, classifier.ErrOverloaded)
}

func scoringError(err error) string {
	switch {
	case errors.Is(err, errScoringTimeout):
		return "timeout"
	case errors.Is(err, classifier.ErrClosed):
		return "closed"
	default:
		return "failed"
	}
}

// Snapshot leases what serves, for those who show it. Release it.
func (r *Router) Snapshot() *Snapshot { return r.cfg.Store.Acquire() }

// Decision returns a kept decision with its outcomes; ErrUnknownDecision wrapped.
func (r *Router) Decision(id string) (Record, []Outcome, error) {
	return r.cfg.Journal.Get(id)
}

// ReportOutcome records an outcome; see Journal.Report for idempotency.
func (r *Router) ReportOutcome(id, key string, o Outcome) (bool, error) {
	if o.Time.IsZero() {
		o.Time = r.cfg.Now()
	}
	return r.cfg.Journal.Report(id, key, o)
}
