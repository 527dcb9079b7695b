package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// The defaults of Config.
const (
	DefaultDebounce = 250 * time.Millisecond
	DefaultMaxWait  = 5 * time.Second
	DefaultPoll     = 15 * time.Second
)

// Config is what a Watcher is made of. Paths and Changed are required; the zero
// value of anything else is its default.
type Config struct {
	// Paths are files or folders, symbolic links or not; they need not exist yet.
	// Of a folder its own entries count, not those of folders within.
	Paths []string
	// Changed is called after a change, from Run's goroutine: never twice at once.
	// What changes while it runs is told by another call.
	Changed func(ctx context.Context)
	// AtStart calls Changed once when Run begins, for what changed since the paths
	// were read last.
	AtStart bool
	// Debounce is how long the paths have to be at rest before a change is told.
	Debounce time.Duration
	// MaxWait is when a change is told at the latest, though the paths never rest.
	MaxWait time.Duration
	// Poll is how often the paths are looked at without a notice.
	Poll time.Duration
	// Logger gets what the watcher has to do without; nil discards.
	Logger *slog.Logger
}

// Watcher watches. Make one by New; Run it once.
type Watcher struct {
	cfg  Config
	told string // the fingerprint of what was told last
}

// New checks the config and notes how the paths are now. It starts nothing.
func New(cfg Config) (*Watcher, error) {
	var faults []error
	if len(cfg.Paths) == 0 || slices.Contains(cfg.Paths, "") {
		faults = append(faults, fmt.Errorf("paths are %q: name at least one file or folder, none of them empty", cfg.Paths))
	}
	if cfg.Changed == nil {
		faults = append(faults, errors.New("changed is nil: say what to do after a change"))
	}
	for name, d := range map[string]time.Duration{"debounce": cfg.Debounce, "max wait": cfg.MaxWait, "poll": cfg.Poll} {
		if d < 0 {
			faults = append(faults, fmt.Errorf("%s is %s: give a positive duration, or 0 for the default", name, d))
		}
	}
	cfg.Paths = slices.Clone(cfg.Paths)
	for i, p := range cfg.Paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			faults = append(faults, fmt.Errorf("path %s: %w", p, err))
		}
		cfg.Paths[i] = abs
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	for d, standard := range map[*time.Duration]time.Duration{&cfg.Debounce: DefaultDebounce, &cfg.MaxWait: DefaultMaxWait, &cfg.Poll: DefaultPoll} {
		if *d == 0 {
			*d = standard
		}
	}
	cfg.MaxWait = max(cfg.MaxWait, cfg.Debounce)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Watcher{cfg: cfg, told: fingerprint(cfg.Paths)}, nil
}

// Run watches until ctx ends, and returns nil then. It has ended every goroutine
// when it returns. Where the system gives no notices, the poll alone remains.
func (w *Watcher) Run(ctx context.Context) error {
	var events <-chan fsnotify.Event
	var lost <-chan error
	notices, err := fsnotify.NewWatcher()
	if err != nil {
		w.cfg.Logger.Warn("no notices of file changes, polling only", "poll", w.cfg.Poll, "error", err)
		notices = nil
	} else {
		defer notices.Close() //nolint:errcheck // it only gives its descriptor back
		events, lost = notices.Events, notices.Errors
		w.follow(notices)
	}
	if w.cfg.AtStart && ctx.Err() == nil {
		w.cfg.Changed(ctx)
	}
	poll := time.NewTicker(w.cfg.Poll)
	defer poll.Stop()
	rest := restTimer{timer: time.NewTimer(time.Hour)}
	defer rest.timer.Stop()
	w.look(&rest) // what changed between New and the first notice
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-events:
			if !ok {
				events = nil
				continue
			}
		case _, ok := <-lost:
			if !ok {
				lost = nil
				continue
			}
		case <-poll.C:
			if notices != nil {
				w.follow(notices) // a folder that was away may be back
			}
		case <-rest.timer.C:
			w.rested(ctx, &rest, notices)
			continue
		}
		w.look(&rest)
	}
}

// restTimer waits until the paths are at rest.
type restTimer struct {
	timer *time.Timer
	// seen is the changed fingerprint that is waited on; "" when none is.
	seen  string
	first time.Time
}

// look starts, or starts again, the wait for rest when the paths are not as they
// were told last.
func (w *Watcher) look(r *restTimer) {
	now := fingerprint(w.cfg.Paths)
	switch {
	case now == w.told:
		r.seen = ""
		r.timer.Stop()
	case r.seen == "":
		r.seen, r.first = now, time.Now()
		r.timer.Reset(w.cfg.Debounce)
	case now != r.seen:
		r.seen = now
		left := w.cfg.MaxWait - time.Since(r.first)
		r.timer.Reset(max(min(w.cfg.Debounce, left), 0))
	}
}

// rested tells the change when the paths did come to rest, or never do.
func (w *Watcher) rested(ctx context.Context, r *restTimer, notices *fsnotify.Watcher) {
	if r.seen == "" {
		return
	}
	now := fingerprint(w.cfg.Paths)
	if now != r.seen && time.Since(r.first) < w.cfg.MaxWait {
		w.look(r)
		return
	}
	if notices != nil {
		w.follow(notices)
		// A link may have moved on before its new folder was followed.
		now = fingerprint(w.cfg.Paths)
	}
	r.seen = ""
	if now == w.told {
		return
	}
	w.told = now
	w.cfg.Changed(ctx)
	w.look(r)
}

// follow asks for notices of every folder in which a change of the paths shows:
// that of each path, of what it leads to, and the folder itself where it is one.
func (w *Watcher) follow(notices *fsnotify.Watcher) {
	want := map[string]bool{}
	for _, p := range w.cfg.Paths {
		for _, dir := range folders(p) {
			want[dir] = true
		}
	}
	for _, dir := range notices.WatchList() {
		if !want[dir] {
			// It may be gone already, and its watch with it.
			_ = notices.Remove(dir)
		}
	}
	for dir := range want {
		// Adding a folder again renews it, which matters when another has taken its
		// name. What cannot be followed is polled.
		if err := notices.Add(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			w.cfg.Logger.Debug("a folder gives no notices, polling it", "folder", dir, "error", err)
		}
	}
}
