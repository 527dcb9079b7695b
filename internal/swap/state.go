package swap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// State is a manager's own folder. It holds copies of accepted bundles by digest,
// so that neither what serves nor what a rollback needs depends on the folder that
// a candidate came from; the reports; and the history:
//
//	bundles/HEX/          accepted copies, HEX being the digest of manifest.json
//	incoming/             copies on their way through the gates; emptied at the start
//	reports/TIME-HEX/     index.html, report.json and the replay's pages
//	scores/               scores by bundle digest, so that a replay is made once
//	history.json          what served, for the next start
//	journal.jsonl         every event, for people and their tools; journal.1.jsonl the one before
//
// It is safe for concurrent use by one process; another that opens it is refused.
type State struct {
	dir  string
	lock *os.File

	// journal guards the file of that name, which begins anew beyond journalBytes.
	journal      sync.Mutex
	journalBytes int64

	mu      sync.Mutex
	history history
}

// Entry is one time that a bundle served.
type Entry struct {
	Identity
	// Since and Until are when it served; Until is zero while it does.
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
	// How tells why it came to serve: "start", "promoted" or "rolled back to".
	How string `json:"how"`
	// Reason says why it stopped serving, where that was a rollback.
	Reason string `json:"reason,omitempty"`
}

type history struct {
	Version int `json:"version"`
	// Boot is the digest that the configured folder had at the last start.
	Boot string `json:"boot"`
	// Line are the bundles that a rollback goes back through; the last one serves.
	Line    []Identity `json:"line"`
	Entries []Entry    `json:"entries"` // oldest first
	// Rejected are digests that were rolled back, with the reason.
	Rejected map[string]string `json:"rejected,omitempty"`
}

const (
	maxEntries = 200
	maxLine    = 8
	maxReports = 50
	maxScores  = 16
	maxFiles   = 256
)

// OpenState makes the folder where it is missing and takes up its history. Close it.
func OpenState(dir string) (_ *State, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("swap state: %w", err)
	}
	s := &State{dir: dir, journalBytes: maxJournal}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("swap state: %w: choose another folder by --bundle-state", err)
	}
	// Nothing is touched before the lock is held: another server may be using it.
	if s.lock, err = lockFile(s.path("lock")); err != nil {
		return nil, fmt.Errorf("swap state %s: %w: another server uses it, choose another folder by --bundle-state", dir, err)
	}
	if err := s.makeFolders(); err != nil {
		return nil, errors.Join(fmt.Errorf("swap state: %w: choose another folder by --bundle-state", err), s.Close())
	}
	raw, err := os.ReadFile(s.path("history.json"))
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, errors.Join(fmt.Errorf("swap state: %w", err), s.Close())
	default:
		// A history that cannot be read is history: it must not keep a server from
		// starting. It is kept beside, for people.
		if json.Unmarshal(raw, &s.history) != nil || s.history.Version != 1 {
			s.history = history{}
			if err := os.Rename(s.path("history.json"), s.path("history.json.unreadable")); err != nil {
				return nil, errors.Join(fmt.Errorf("swap state: %w", err), s.Close())
			}
		}
	}
	s.history.Version = 1
	return s, nil
}

// makeFolders makes what is missing, and removes what a process that died was copying.
func (s *State) makeFolders() error {
	errs := []error{os.RemoveAll(s.path("incoming"))}
	for _, name := range []string{"bundles", "incoming", "reports", "scores"} {
		errs = append(errs, os.MkdirAll(s.path(name), 0o700))
	}
	return errors.Join(errs...)
}

// Close lets another process use the folder.
func (s *State) Close() error { return s.lock.Close() }

func (s *State) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// Scores is the folder of the score cache.
func (s *State) Scores() string { return s.path("scores") }

func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

// Folder is where the accepted copy of a bundle is, or would be.
func (s *State) Folder(digest string) string { return s.path("bundles", hexOf(digest)) }

// LastServed is the bundle that served last and the digest that the configured
// folder had when that process started; "" where there was none.
func (s *State) LastServed() (serving Identity, boot string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.history.Line); n > 0 {
		serving = s.history.Line[n-1]
	}
	return serving, s.history.Boot
}

// Rejected tells whether a bundle was rolled back and not promoted since, and why.
func (s *State) Rejected(digest string) (why string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	why, ok = s.history.Rejected[digest]
	return why, ok
}

// Entries are the times that bundles served, newest first.
func (s *State) Entries() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.history.Entries)
	slices.Reverse(out)
	return out
}

// Take copies a folder's plain files into incoming, at most max bytes of them, and
// returns the copy. Files whose names begin with a dot, and folders, stay behind.
// The error says which gate refuses.
func (s *State) Take(ctx context.Context, root *os.Root, most int64) (dir string, _ *Gate, _ error) {
	dir, err := os.MkdirTemp(s.path("incoming"), "*")
	if err != nil {
		return "", nil, fmt.Errorf("copy bundle: %w", err)
	}
	gate, err := copyFiles(ctx, root, dir, most)
	if err == nil && gate == nil {
		return dir, nil, nil
	}
	return "", gate, errors.Join(err, os.RemoveAll(dir))
}

func copyFiles(ctx context.Context, root *os.Root, dir string, most int64) (*Gate, error) {
	folder, err := root.Open(".")
	if err != nil {
		return &Gate{Name: GateFolder, Detail: err.Error() + ": give the server the right to read it"}, nil //nolint:nilerr // it is the candidate's fault
	}
	names, err := folder.Readdirnames(maxFiles + 1)
	if err := errors.Join(ignoreEOF(err), folder.Close()); err != nil {
		return &Gate{Name: GateFolder, Detail: err.Error()}, nil //nolint:nilerr // it is the candidate's fault
	}
	if len(names) > maxFiles {
		return &Gate{Name: GateFolder, Detail: fmt.Sprintf("it holds more than %d files: a bundle is one folder with a manifest and what that names", maxFiles)}, nil
	}
	slices.Sort(names)
	left := most
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			continue
		}
		n, gate, err := copyFile(ctx, root, name, filepath.Join(dir, name), left)
		if gate != nil && gate.Name == GateSize {
			gate.Detail = fmt.Sprintf("its files have more than %d bytes together (%s is one too many): raise max_bytes in the gate policy", most, name)
		}
		if gate != nil || err != nil {
			return gate, err
		}
		left -= n
	}
	return nil, nil //nolint:nilnil // no gate refuses
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func copyFile(ctx context.Context, root *os.Root, name, to string, most int64) (int64, *Gate, error) {
	if err := context.Cause(ctx); err != nil {
		return 0, nil, err
	}
	info, err := root.Lstat(name)
	switch {
	case err != nil:
		return 0, &Gate{Name: GateFolder, Detail: err.Error() + ": it changed while it was read; put the folder in place by one rename"}, nil
	case info.IsDir():
		return 0, nil, nil
	case !info.Mode().IsRegular():
		return 0, &Gate{Name: GateFolder, Detail: fmt.Sprintf("%s is no regular file (%s): put the file itself into the folder", name, info.Mode().Type())}, nil
	case info.Size() > most:
		return 0, &Gate{Name: GateSize}, nil
	}
	from, err := root.Open(name)
	if err != nil {
		return 0, &Gate{Name: GateFolder, Detail: err.Error() + ": give the server the right to read it"}, nil
	}
	defer from.Close() //nolint:errcheck // it was only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, nil, fmt.Errorf("copy bundle: %w", err)
	}
	n, err := io.Copy(out, io.LimitReader(from, most+1))
	if err := errors.Join(err, out.Close()); err != nil {
		return 0, nil, fmt.Errorf("copy %s: %w", name, err)
	}
	if n > most {
		return 0, &Gate{Name: GateSize}, nil
	}
	return n, nil, nil
}

// Import copies the folder that a server starts with, so that what serves never
// depends on it. Identify is as in Config. It returns the folder of the copy.
func (s *State) Import(ctx context.Context, dir string, most int64, identify func(string) (Identity, []Gate)) (string, Identity, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", Identity{}, fmt.Errorf("read bundle: %w", err)
	}
	defer root.Close() //nolint:errcheck // it was only read
	copied, gate, err := s.Take(ctx, root, most)
	if err != nil {
		return "", Identity{}, err
	}
	if gate != nil {
		return "", Identity{}, fmt.Errorf("read bundle %s: %s", dir, gate.Detail)
	}
	id, gates := identify(copied)
	if len(gates) > 0 {
		var faults []error
		for _, g := range gates {
			faults = append(faults, errors.New(strings.ReplaceAll(g.Detail, copied, dir)))
		}
		return "", id, errors.Join(fmt.Errorf("read bundle %s: %w", dir, errors.Join(faults...)), os.RemoveAll(copied))
	}
	kept, err := s.accept(copied, id.Digest)
	return kept, id, err
}

// accept moves a copy to its place under its digest. A copy that is there already
// is the same: the manifest, which the digest names, vouches for every file; but the
// disk may have lost something since, so the newer one takes its place.
func (s *State) accept(copied, digest string) (string, error) {
	to := s.Folder(digest)
	old := ""
	if _, err := os.Stat(to); err == nil {
		old = copied + "-old"
		if err := os.Rename(to, old); err != nil {
			return "", fmt.Errorf("keep bundle: %w", err)
		}
	}
	if err := os.Rename(copied, to); err != nil {
		return "", fmt.Errorf("keep bundle: %w", err)
	}
	if old != "" {
		if err := os.RemoveAll(old); err != nil {
			return "", fmt.Errorf("keep bundle: %w", err)
		}
	}
	return to, nil
}

// newReport makes the folder of a report, and removes the oldest ones.
func (s *State) newReport(now time.Time, digest string) (string, error) {
	if digest == "" {
		digest = "unread"
	}
	dir, err := os.MkdirTemp(s.path("reports"), now.UTC().Format("20060102T150405.000")+"-"+short(digest)+"-*")
	if err != nil {
		return "", fmt.Errorf("make report: %w", err)
	}
	entries, err := os.ReadDir(s.path("reports"))
	if err != nil {
		return "", fmt.Errorf("make report: %w", err)
	}
	for len(entries) > maxReports {
		if err := os.RemoveAll(s.path("reports", entries[0].Name())); err != nil {
			return "", fmt.Errorf("remove old report: %w", err)
		}
		entries = entries[1:]
	}
	return dir, nil
}

// update changes the history and writes it, whole or not at all.
func (s *State) update(change func(*history)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.history)
	h := &s.history
	h.Entries = h.Entries[max(0, len(h.Entries)-maxEntries):]
	h.Line = h.Line[max(0, len(h.Line)-maxLine):]
	raw, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	f, err := os.CreateTemp(s.dir, ".history-*")
	if err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	_, err = f.Write(append(raw, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write history: %w", err), os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), s.path("history.json")); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

// prune removes the copies that neither serve, nor wait to, nor can be rolled back to.
func (s *State) prune(keep ...string) error {
	s.mu.Lock()
	for _, id := range s.history.Line {
		keep = append(keep, id.Digest)
	}
	s.mu.Unlock()
	entries, err := os.ReadDir(s.path("bundles"))
	if err != nil {
		return fmt.Errorf("prune bundles: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !slices.ContainsFunc(keep, func(digest string) bool { return hexOf(digest) == e.Name() }) {
			errs = append(errs, os.RemoveAll(s.path("bundles", e.Name())))
		}
	}
	return errors.Join(append(errs, s.pruneScores())...)
}

// pruneScores removes the score caches that were not written to for longest.
func (s *State) pruneScores() error {
	entries, err := os.ReadDir(s.path("scores"))
	if err != nil {
		return fmt.Errorf("prune scores: %w", err)
	}
	var files []os.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // gone meanwhile otherwise
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	var errs []error
	for _, f := range files[min(len(files), maxScores):] {
		errs = append(errs, os.Remove(s.path("scores", f.Name())))
	}
	return errors.Join(errs...)
}

// began records that a bundle serves from now on.
func (h *history) began(id Identity, at time.Time, how, reason string) {
	if n := len(h.Entries); n > 0 && h.Entries[n-1].Until.IsZero() {
		h.Entries[n-1].Until, h.Entries[n-1].Reason = at, reason
	}
	h.Entries = append(h.Entries, Entry{Identity: id, Since: at, How: how})
}
