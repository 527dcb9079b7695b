package swap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Staged is a candidate that passed every gate.
type Staged struct {
	Identity
	Report *Report
	// Page is the report for people.
	Page string
}

// Stage holds the bundle of that name under the root against every gate. What
// serves is untouched; a candidate that passed may be promoted until another one
// is staged. Errors: ErrNoRoot, ErrName, ErrUnknown, ErrServing, *RefusedError, or
// a fault of the examination. It ends early only with the manager, not with ctx:
// who gave up learns the outcome from Status.
func (m *Manager) Stage(ctx context.Context, name string) (Staged, error) {
	root, err := m.openName(name)
	if err != nil {
		return Staged{}, fmt.Errorf("stage: %w", err)
	}
	defer root.Close() //nolint:errcheck // it was only read
	ctx, cancel := m.bound(context.WithoutCancel(ctx))
	defer cancel()
	if err := m.take(ctx); err != nil {
		return Staged{}, fmt.Errorf("stage: %w", err)
	}
	defer m.leave()
	return m.stage(ctx, root, filepath.Join(m.cfg.Root, name), false)
}

// openName opens a folder under the root, and nothing that lies elsewhere.
func (m *Manager) openName(name string) (*os.Root, error) {
	if m.cfg.Root == "" {
		return nil, ErrNoRoot
	}
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\:\x00") || !filepath.IsLocal(name) {
		return nil, fmt.Errorf("%.100q %w", name, ErrName)
	}
	all, err := os.OpenRoot(m.cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("bundle root: %w", err)
	}
	defer all.Close() //nolint:errcheck // it was only read
	info, err := all.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %q is not under the bundle root", ErrUnknown, name)
	case err != nil:
		// A link that leaves the root gets here.
		return nil, fmt.Errorf("%.100q %w (%w)", name, ErrName, err)
	case !info.IsDir():
		return nil, fmt.Errorf("%w: %q is no folder", ErrUnknown, name)
	}
	root, err := all.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("%.100q %w (%w)", name, ErrName, err)
	}
	return root, nil
}

// Reread examines what the watched folder holds now, and promotes it when it
// passed. A bundle that was rolled back is not tried again: ErrRolledBack.
// ErrServing means that there is nothing new.
func (m *Manager) Reread(ctx context.Context) (Identity, error) {
	if m.cfg.Watched == "" {
		return Identity{}, errors.New("reread: no folder is watched")
	}
	ctx, cancel := m.bound(ctx)
	defer cancel()
	if err := m.take(ctx); err != nil {
		return Identity{}, fmt.Errorf("reread: %w", err)
	}
	defer m.leave()
	root, err := os.OpenRoot(m.cfg.Watched)
	if err != nil {
		r := &Report{Version: 1, Time: m.cfg.Now(), Serving: m.Status().Serving}
		r.refuse(GateFolder, "%v: put the folder back, what was read before serves on", err)
		return Identity{}, fmt.Errorf("reread: %w", m.refused(r, m.cfg.Now()))
	}
	defer root.Close() //nolint:errcheck // it was only read
	id, err := m.stageAndPromote(ctx, root)
	if errors.Is(err, errOvertaken) {
		// Another bundle was rolled back meanwhile. It happens once: that one is gone.
		id, err = m.stageAndPromote(ctx, root)
	}
	if err != nil {
		return id, fmt.Errorf("reread: %w", err)
	}
	return id, nil
}

func (m *Manager) stageAndPromote(ctx context.Context, root *os.Root) (Identity, error) {
	staged, err := m.stage(ctx, root, m.cfg.Watched, true)
	if err != nil {
		return staged.Identity, err
	}
	return m.promote(ctx, staged.Digest)
}

// stage copies, examines and accepts. The caller has the place in loading.
func (m *Manager) stage(ctx context.Context, root *os.Root, origin string, automatic bool) (_ Staged, err error) {
	start := m.cfg.Now()
	status := m.Status()
	r := &Report{Version: 1, Time: start, Serving: status.Serving}
	fail := func(err error) (Staged, error) {
		if ctx.Err() == nil {
			m.tell(Event{Kind: EventFailed, Bundle: r.Candidate, Reason: err.Error(), Took: m.cfg.Now().Sub(start)})
		}
		return Staged{}, err
	}
	copied, gate, err := m.cfg.State.Take(ctx, root, m.cfg.Policy.MaxBytes)
	if err != nil {
		return fail(err)
	}
	if gate != nil {
		r.Gates = append(r.Gates, *gate)
		return Staged{}, m.refused(r, start)
	}
	defer func() {
		// A copy that was accepted is not there any more.
		err = errors.Join(err, os.RemoveAll(copied))
	}()
	r.pass(GateFolder, "plain files only")
	r.pass(GateSize, "at most %d bytes", m.cfg.Policy.MaxBytes)
	var gates []Gate
	r.Candidate, gates = m.cfg.Identify(copied)
	if len(gates) > 0 {
		r.Gates = append(r.Gates, gates...)
		r.from(copied, origin)
		return Staged{}, m.refused(r, start)
	}
	switch why, rejected := m.cfg.State.Rejected(r.Candidate.Digest); {
	case r.Candidate.Digest == status.Serving.Digest:
		m.forget()
		return Staged{}, fmt.Errorf("%s: %w", r.Candidate, ErrServing)
	case automatic && rejected:
		return Staged{}, fmt.Errorf("%s: %w (%s)", r.Candidate, ErrRolledBack, why)
	}
	page, err := m.examine(ctx, r, copied, origin)
	if err != nil {
		return fail(err)
	}
	if !r.Passed() {
		return Staged{}, m.refusedWith(r, start, page)
	}
	if _, err := m.cfg.State.accept(copied, r.Candidate.Digest); err != nil {
		return fail(err)
	}
	m.mu.Lock()
	id := r.Candidate
	m.staged, m.against, m.gates, m.page = &id, status.Serving.Digest, r.Gates, page
	m.mu.Unlock()
	m.noHistory(m.cfg.State.prune(id.Digest, status.Serving.Digest))
	m.tell(Event{Kind: EventStaged, Bundle: id, Took: m.cfg.Now().Sub(start), Page: page})
	return Staged{Identity: id, Report: r, Page: page}, nil
}

// forget drops the last refusal: the folder holds what serves again.
func (m *Manager) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refusal = nil
}

// examine runs the exam and writes its report.
func (m *Manager) examine(ctx context.Context, r *Report, copied, origin string) (page string, err error) {
	out, err := m.cfg.State.newReport(r.Time, r.Candidate.Digest)
	if err != nil {
		return "", err
	}
	snap := m.cfg.Store.Acquire()
	config := string(snap.Rules.Text)
	snap.Release()
	got, err := m.cfg.Examine(ctx, Job{
		Candidate: copied, Serving: m.cfg.State.Folder(r.Serving.Digest), Out: out, Config: config, Policy: *m.cfg.Policy, Texts: m.cfg.Texts(),
	})
	if err != nil {
		return "", errors.Join(fmt.Errorf("examine %s: %w", r.Candidate, err), os.RemoveAll(out))
	}
	if d := got.Candidate.Digest; d != "" && d != r.Candidate.Digest {
		return "", fmt.Errorf("examine %s: the exam was of %s", r.Candidate, d)
	}
	r.Gates = append(r.Gates, got.Gates...)
	if len(got.Gates) == 0 {
		r.refuse(GateLoad, "the exam held no gate")
	} else if !slices.ContainsFunc(got.Gates, func(g Gate) bool { return g.Name == GateLoad }) {
		r.pass(GateLoad, "the first load ended well, in a process of its own")
	}
	r.Speed, r.Size, r.Replay, r.Pages = got.Speed, got.Size, got.Replay, got.Pages
	r.from(copied, origin)
	return r.write(out)
}

// from names the candidate's own folder in place of its copy, and puts the gates
// into their order.
func (r *Report) from(copied, origin string) {
	names := GateNames()
	for i := range r.Gates {
		r.Gates[i].Detail = strings.ReplaceAll(r.Gates[i].Detail, copied, origin)
	}
	slices.SortStableFunc(r.Gates, func(a, b Gate) int { return slices.Index(names, a.Name) - slices.Index(names, b.Name) })
}

// refused tells of a candidate that did not get as far as an exam.
func (m *Manager) refused(r *Report, start time.Time) error {
	out, err := m.cfg.State.newReport(r.Time, r.Candidate.Digest)
	page := ""
	if err == nil {
		page, err = r.write(out)
	}
	if err != nil {
		m.cfg.Logger.Error("the report of a refusal was not written", "error", err)
	}
	return m.refusedWith(r, start, page)
}

func (m *Manager) refusedWith(r *Report, start time.Time, page string) error {
	e := Event{Kind: EventRefused, Time: m.cfg.Now(), Bundle: r.Candidate, Gates: r.Failed(), Took: m.cfg.Now().Sub(start), Page: page}
	m.mu.Lock()
	m.gates, m.page, m.refusal = r.Gates, page, &e
	m.mu.Unlock()
	m.tell(e)
	return &RefusedError{Report: r, Page: page}
}
