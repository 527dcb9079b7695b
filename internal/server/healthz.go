package server

import (
	"encoding/json"
	"net/http"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// healthDetail is what /healthz?detail says beside the status: what decides, and
// where a swap of it stands.
type healthDetail struct {
	Status string       `json:"status"`
	Bundle healthBundle `json:"bundle"`
	Config string       `json:"config_digest"`
	// State is "steady", or "settling" while the bundle may still be rolled back by
	// itself.
	State    string         `json:"state"`
	Settles  *time.Time     `json:"settles,omitempty"`
	Staged   *healthBundle  `json:"staged,omitempty"`
	Previous *healthBundle  `json:"previous,omitempty"`
	Refusal  *healthRefusal `json:"refusal,omitempty"`
}

type healthBundle struct {
	Name    string     `json:"name"`
	Version string     `json:"version"`
	Digest  string     `json:"digest"`
	Since   *time.Time `json:"since,omitempty"`
}

type healthRefusal struct {
	Bundle healthBundle `json:"bundle"`
	Time   time.Time    `json:"time"`
	Gates  []string     `json:"gates"`
}

// healthz answers 200 or 503, for people and for probes that speak no gRPC. With the
// query detail it says as JSON what serves: a server that refused a bundle is healthy,
// and yet somebody wants to know.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	res, err := s.health.Check(r.Context(), &healthv1.HealthCheckRequest{Service: healthServer})
	serving := err == nil && res.GetStatus() == healthv1.HealthCheckResponse_SERVING
	if !r.URL.Query().Has("detail") {
		if !serving {
			http.Error(w, "NOT_SERVING", http.StatusServiceUnavailable)
			return
		}
		// A write that fails means that the prober has gone.
		_, _ = w.Write([]byte("SERVING\n"))
		return
	}
	d := s.detail()
	w.Header().Set("Content-Type", "application/json")
	if d.Status = "SERVING"; !serving {
		d.Status = "NOT_SERVING"
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(d) // the same
}

func (s *Server) detail() *healthDetail {
	snap := s.cfg.Store.Acquire()
	defer snap.Release()
	info := snap.Classifier.Info()
	d := &healthDetail{
		Bundle: healthBundle{Name: info.Name, Version: info.Version, Digest: info.Digest}, Config: snap.Rules.Digest, State: "steady",
	}
	if s.cfg.Swap == nil {
		return d
	}
	b := s.cfg.Swap.Bundles()
	if b.Serving.Digest == info.Digest { // else it was exchanged this moment
		d.Bundle = b.Serving.health()
	}
	if !b.SettlesAt.IsZero() {
		d.State, d.Settles = "settling", &b.SettlesAt
	}
	for to, from := range map[**healthBundle]*Bundle{&d.Staged: b.Staged, &d.Previous: b.Previous} {
		if from != nil {
			one := from.health()
			*to = &one
		}
	}
	if x := b.Refusal; x != nil {
		d.Refusal = &healthRefusal{Bundle: x.Bundle.health(), Time: x.Time}
		for _, g := range x.Gates {
			d.Refusal.Gates = append(d.Refusal.Gates, g.Name)
		}
	}
	return d
}

func (b *Bundle) health() healthBundle {
	h := healthBundle{Name: b.Name, Version: b.Version, Digest: b.Digest}
	if !b.Since.IsZero() {
		h.Since = &b.Since
	}
	return h
}
