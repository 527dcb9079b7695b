package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/weirhq/weir/classifier/onnx"
	"github.com/weirhq/weir/internal/server"
	"github.com/weirhq/weir/internal/swap"
	"github.com/weirhq/weir/internal/watch"
	"github.com/weirhq/weir/router"
)

// swapFlags say how bundles and the config are replaced while serving.
type swapFlags struct {
	root, state, gate string
	watch             bool
	settle            time.Duration
	capture           int
	// debounce is for tests; 0 is the watcher's own.
	debounce time.Duration
}

func (f *swapFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.root, "bundle-root", "", "folder whose folders may be staged by name (see weir model stage)")
	flags.StringVar(&f.state, "bundle-state", "", "folder that keeps accepted bundles, reports and history between starts (default: a temporary one)")
	flags.StringVar(&f.gate, "gate", "", "gate policy that a new bundle has to keep to, YAML (default: built in; see docs/swap.md)")
	flags.BoolVar(&f.watch, "watch", true, "reload the config file and reread the bundle folder when they change")
	flags.DurationVar(&f.settle, "settle", -1, "how long a new bundle is watched and the one before stays loaded (default: the gate policy's)")
	flags.IntVar(&f.capture, "capture-prompts", 0, "keep so many of the last prompts in memory, for the replay gate only; they are never logged or written")
}

// policy reads the gate policy.
func (f *swapFlags) policy() (*swap.Policy, error) {
	p := swap.DefaultPolicy()
	if f.gate != "" {
		raw, err := os.ReadFile(f.gate)
		if err != nil {
			return nil, fmt.Errorf("gate policy: %w", err)
		}
		if err := decodePolicy(raw, &p); err != nil {
			return nil, fmt.Errorf("gate policy %s: %w", f.gate, err)
		}
	}
	if f.settle >= 0 {
		p.Settle.For = f.settle
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	_, err := replaySources(p.Replay.Sets)
	return &p, err
}

// decodePolicy reads YAML over the defaults. A field that it does not know is a
// fault: a bound that is misspelt would not be held.
func decodePolicy(raw []byte, p *swap.Policy) error {
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(p); err != nil && !errors.Is(err, io.EOF) { // an empty file changes nothing
		return err
	}
	return nil
}

// swapping is the swap of bundles in a server; with the baseline classifier there
// is none, and its methods do nothing.
type swapping struct {
	flags   *swapFlags
	policy  *swap.Policy
	logger  *slog.Logger
	state   *swap.State
	watched string // the configured folder
	boot    string // the digest of its manifest at the start, "" unread
	open    func(ctx context.Context, dir string) (swap.Bundle, error)
	library string

	manager  atomic.Pointer[swap.Manager]
	captured *captured
}

// openServing opens the classifier that is to serve. A bundle is copied first, so
// that what serves never depends on the folder. Which one: the configured folder's,
// but a bundle that was promoted after a start from that very content goes on
// serving; and when the folder cannot be opened, the last good one serves.
func (f *serveFlags) openServing(ctx context.Context, w world, logger *slog.Logger) (*opened, *swapping, error) {
	s := &swapping{flags: &f.swap, logger: logger, captured: newCaptured(f.swap.capture)}
	policy, err := f.swap.policy()
	if err != nil {
		return nil, nil, usageError("%w", err)
	}
	s.policy = policy
	if f.kind != "onnx" {
		o, err := f.open(ctx, w)
		return o, s, err
	}
	var down teardown
	fail := func(err error) (*opened, *swapping, error) { return nil, nil, errors.Join(err, down.close()) }
	if s.state, err = f.swap.openState(&down); err != nil {
		return fail(err)
	}
	last, boot := s.state.LastServed()
	configured, err := findBundle(f.bundle, w.getenv)
	var copied string
	var id swap.Identity
	if err == nil {
		if s.watched, err = filepath.Abs(configured); err == nil {
			copied, id, err = s.state.Import(ctx, configured, policy.MaxBytes, identify)
		}
		if err == nil {
			s.boot = id.Digest
		}
	}
	folder, kept := start{id, copied}, start{last, s.state.Folder(last.Digest)}
	first, second := folder, kept
	if err == nil && s.keepsLast(id, last, boot) {
		first, second = kept, folder
	}
	from := f.classifierFlags
	from.bundle = first.dir
	o, openErr := (*opened)(nil), err
	if err == nil {
		o, openErr = from.open(ctx, w)
	}
	if openErr != nil && second.id.Digest != "" && ctx.Err() == nil {
		from.bundle = second.dir
		var secondErr error
		if o, secondErr = from.open(ctx, w); secondErr != nil {
			return fail(errors.Join(openErr, fmt.Errorf("and %s: %w", second.id, secondErr)))
		}
		if second == kept {
			logger.Error("the configured bundle cannot be opened, serving the last good one", "error", openErr, "bundle_digest", second.id.Digest)
			s.boot = boot // nothing began from the folder: the next start tries it again
		} else {
			logger.Error("the bundle that was promoted last cannot be opened, serving the configured folder's", "error", openErr, "bundle_digest", second.id.Digest)
		}
		openErr = nil
	}
	if openErr != nil {
		return fail(openErr)
	}
	s.library = o.library
	s.open = func(ctx context.Context, dir string) (swap.Bundle, error) {
		b, err := o.runtime.Open(ctx, dir, onnx.Config{MaxConcurrent: f.maxConcurrent, MaxQueue: f.maxQueue})
		if err != nil {
			return nil, err
		}
		return b, nil
	}
	// The state is closed after the bundles that were opened from it.
	o.teardown = append(down, o.teardown...)
	return o, s, nil
}

// start is a bundle that a server may start with, and where its copy is.
type start struct {
	id  swap.Identity
	dir string
}

// keepsLast says whether the bundle that served last goes on serving although the
// configured folder holds another one: it was promoted after a start from that very
// content, or that content was rolled back.
func (s *swapping) keepsLast(id, last swap.Identity, boot string) bool {
	if last.Digest == "" || last.Digest == id.Digest {
		return false
	}
	why, rejected := s.state.Rejected(id.Digest)
	switch {
	case boot == id.Digest:
		s.logger.Info("serving the bundle that was promoted last, not the configured folder's", "bundle_digest", last.Digest, "configured_digest", id.Digest)
	case rejected:
		s.logger.Warn("the configured folder's bundle was rolled back, serving the one before", "bundle_digest", last.Digest, "configured_digest", id.Digest, "reason", why)
	default:
		return false
	}
	return true
}

// openState opens the folder of copies: the configured one, or a temporary one
// that is removed at the end.
func (f *swapFlags) openState(down *teardown) (*swap.State, error) {
	dir := f.state
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "weir-bundles-*"); err != nil {
			return nil, fmt.Errorf("make a temporary folder for bundles: %w", err)
		}
		down.push("temporary folder", func() error { return os.RemoveAll(dir) })
	}
	state, err := swap.OpenState(dir)
	if err != nil {
		return nil, err
	}
	down.push("bundle state", state.Close)
	return state, nil
}

// start makes the manager, watches the folder and returns what ends both. Call that
// after the server has stopped and before the classifier is closed.
func (s *swapping) start(ctx context.Context, serving *opened, adm *admin) (stop func() error, err error) {
	if adm.swaps, err = adm.metrics.Swaps(); err != nil || s.state == nil {
		return func() error { return nil }, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	exam := &examiner{program: program, args: []string{"model", "probe"}, library: s.library, cache: s.state.Scores()}
	m, err := swap.New(swap.Config{
		Store: adm.store, Serving: serving.bundle, State: s.state, Root: s.flags.root, Watched: s.watched, Policy: s.policy,
		Open: s.open, Identify: identify, Texts: s.captured.texts, Logger: s.logger,
		Examine: func(ctx context.Context, job swap.Job) (*swap.Report, error) { return exam.examine(ctx, job) },
		Notify:  func(e swap.Event) { notify(adm, &e) },
	})
	if err != nil {
		return nil, err
	}
	if err := m.Boot(s.boot); err != nil {
		return nil, err
	}
	s.manager.Store(m)
	// A call that waits for an examination would hold the server's stop.
	unhook := context.AfterFunc(ctx, m.Abort)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	stop = func() error {
		unhook() // Close aborts as well
		cancel()
		wg.Wait()
		return m.Close()
	}
	wg.Go(func() { _ = m.Run(ctx) }) // it never fails
	if s.flags.watch && s.watched != "" {
		watcher, err := watch.New(watch.Config{
			Paths: []string{s.watched}, Logger: s.logger, Debounce: s.flags.debounce,
			Changed: func(ctx context.Context) { s.reread(ctx, "the folder changed") },
		})
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		wg.Go(func() {
			s.catchUp(ctx)
			_ = watcher.Run(ctx)
		})
	}
	return stop, nil
}

// catchUp rereads the folder once when it does not hold what serves: it was changed
// between its copy and the watcher's first look, or could not be opened.
func (s *swapping) catchUp(ctx context.Context) {
	if id, gates := identify(s.watched); len(gates) == 0 && id.Digest != s.boot {
		s.reread(ctx, "the folder changed")
	}
}

// notify counts an event.
func notify(adm *admin, e *swap.Event) {
	var gates []string
	for _, g := range e.Gates {
		gates = append(gates, g.Name)
	}
	adm.swaps.Bundle(string(e.Kind), gates)
	switch e.Kind {
	case swap.EventStaged, swap.EventRefused:
		adm.swaps.Examined(e.Took)
	case swap.EventPromoted:
		adm.swaps.Settling(true)
		adm.showServing()
	case swap.EventRolledBack:
		adm.swaps.Settling(false)
		adm.showServing()
	case swap.EventSettled:
		adm.swaps.Settling(false)
	case swap.EventFailed:
	}
}

// reread examines and promotes what the folder holds now. The manager logs what
// comes of it; what it has no event for is said here.
func (s *swapping) reread(ctx context.Context, why string) {
	m := s.manager.Load()
	if m == nil {
		return
	}
	_, err := m.Reread(ctx)
	switch {
	case errors.Is(err, swap.ErrRolledBack):
		s.logger.Warn("bundle left out", "error", err, "because", why)
	case errors.Is(err, swap.ErrServing) && why == hangup:
		s.logger.Info("bundle unchanged", "bundle_digest", m.Status().Serving.Digest, "because", why)
	}
}

// observe passes decisions on to the metrics and to the manager, once there is one.
func (s *swapping) observe(next router.Observer) router.Observer { return &watchedObserver{next, s} }

type watchedObserver struct {
	next router.Observer
	swap *swapping
}

// Routed implements router.Observer.
func (o *watchedObserver) Routed(r *router.Record, err error) {
	o.next.Routed(r, err)
	if m := o.swap.manager.Load(); m != nil {
		m.Routed(r, err)
	}
}

// swapper is nil where bundles are not swapped.
func (s *swapping) swapper() server.Swapper {
	if m := s.manager.Load(); m != nil {
		return &bundleAdmin{m}
	}
	return nil
}

// bundleAdmin is a manager as the server wants it.
type bundleAdmin struct{ m *swap.Manager }

func (b *bundleAdmin) Stage(ctx context.Context, name string) (server.StagedBundle, error) {
	got, err := b.m.Stage(ctx, name)
	if err != nil {
		return server.StagedBundle{}, adminError(err)
	}
	page, err := filepath.Abs(got.Page)
	return server.StagedBundle{Bundle: bundleOf(got.Identity), Gates: gatesToServer(got.Report.Gates), Report: page}, err
}

func (b *bundleAdmin) Promote(ctx context.Context, digest string) (server.Bundle, error) {
	id, err := b.m.Promote(ctx, digest)
	return bundleOf(id), adminError(err)
}

func (b *bundleAdmin) Rollback(ctx context.Context) (server.Bundle, error) {
	id, err := b.m.Rollback(ctx)
	return bundleOf(id), adminError(err)
}

func (b *bundleAdmin) Bundles() server.BundleStatus {
	s := b.m.Status()
	out := server.BundleStatus{Serving: bundleOf(s.Serving), SettlesAt: s.SettlesAt}
	out.Serving.Since = s.Since
	for to, from := range map[**server.Bundle]*swap.Identity{&out.Staged: s.Staged, &out.Previous: s.Previous} {
		if from != nil {
			one := bundleOf(*from)
			*to = &one
		}
	}
	if r := s.Refusal; r != nil {
		out.Refusal = &server.BundleRefusal{Bundle: bundleOf(r.Bundle), Gates: gatesToServer(r.Gates), Time: r.Time, Report: r.Page}
	}
	for _, e := range b.m.History() {
		one := bundleOf(e.Identity)
		one.Since, one.Until, one.Origin, one.Reason = e.Since, e.Until, e.How, e.Reason
		out.History = append(out.History, one)
	}
	return out
}

func bundleOf(id swap.Identity) server.Bundle {
	return server.Bundle{Name: id.Name, Version: id.Version, Digest: id.Digest, ReferenceEfficient: id.ReferenceEfficient, ReferenceHigh: id.ReferenceHigh}
}

func gatesToServer(gates []swap.Gate) []server.Gate {
	out := make([]server.Gate, len(gates))
	for i, g := range gates {
		out[i] = server.Gate(g)
	}
	return out
}

// adminError turns a manager's errors into the server's.
func adminError(err error) error {
	if err == nil {
		return nil
	}
	var refused *swap.RefusedError
	if errors.As(err, &refused) {
		return &server.BundleRefusedError{Gates: gatesToServer(refused.Report.Failed()), Report: refused.Page, Err: err}
	}
	for from, to := range map[error]error{
		swap.ErrName: server.ErrBundleName, swap.ErrUnknown: server.ErrUnknownBundle, swap.ErrServing: server.ErrBundleServing,
		swap.ErrNoRoot: server.ErrNoBundleRoot, swap.ErrNotStaged: server.ErrNotStaged, swap.ErrNoPrevious: server.ErrNoPreviousBundle,
	} {
		if errors.Is(err, from) {
			return &sameWords{err, to}
		}
	}
	return &server.BundleFaultError{Err: err}
}

// sameWords is an error under another's name.
type sameWords struct{ err, is error }

func (e *sameWords) Error() string   { return e.err.Error() }
func (e *sameWords) Unwrap() []error { return []error{e.err, e.is} }

// captured is a ring of the last prompts, in memory only. A nil one keeps none.
type captured struct {
	mu   sync.Mutex
	ring []string
	next int
}

// maxCaptured bounds the bytes of a prompt that is kept: no bundle reads more.
const maxCaptured = 64 << 10

func newCaptured(n int) *captured {
	if n <= 0 {
		return nil
	}
	return &captured{ring: make([]string, 0, n)}
}

func (c *captured) add(text string) {
	if c == nil || len(text) > maxCaptured {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ring) < cap(c.ring) {
		c.ring = append(c.ring, text)
		return
	}
	c.ring[c.next] = text
	c.next = (c.next + 1) % len(c.ring)
}

func (c *captured) texts() []string {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.ring...)
}
