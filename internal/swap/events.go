package swap

import (
	"context"
	"log/slog"
	"time"
)

// tell logs an event, writes it into the journal and passes it on.
func (m *Manager) tell(e Event) {
	if e.Time.IsZero() {
		e.Time = m.cfg.Now()
	}
	level, text := slog.LevelInfo, ""
	switch e.Kind {
	case EventStaged:
		text = "bundle staged: it passed every gate"
	case EventPromoted:
		text = "bundle promoted"
	case EventSettled:
		text = "bundle settled"
	case EventRolledBack:
		level, text = slog.LevelWarn, "bundle rolled back"
	case EventRefused:
		level, text = slog.LevelWarn, "bundle refused, what serves stays"
	case EventFailed:
		level, text = slog.LevelError, "bundle not examined or opened, what serves stays"
	}
	attrs := []slog.Attr{
		slog.String("bundle", e.Bundle.Name+" "+e.Bundle.Version), slog.String("bundle_digest", e.Bundle.Digest),
		slog.Duration("took", e.Took.Round(10*time.Microsecond)),
	}
	add := func(name, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	add("from_digest", e.From.Digest)
	for _, g := range e.Gates {
		add("gate_"+g.Name, g.Detail)
	}
	add("reason", e.Reason)
	add("report", e.Page)
	if e.Kind == EventRolledBack {
		attrs = append(attrs, slog.Bool("automatic", e.Automatic))
	}
	if err := m.cfg.State.note(&e); err != nil {
		m.cfg.Logger.Error("the bundles' journal is not up to date", "error", err)
	}
	m.cfg.Logger.LogAttrs(context.Background(), level, text, attrs...)
	m.cfg.Notify(e)
}
