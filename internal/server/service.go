package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/weirhq/weir/classifier"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// routerService is RouterService. Its methods return plain errors: the
// interceptor turns them into statuses.
type routerService struct {
	weirv1.UnimplementedRouterServiceServer
	router Router
	store  *router.Store
	// completer is nil on a server that only routes.
	completer       Completer
	completeTimeout time.Duration
	health          func(*router.Model) []router.DeploymentHealth
	// usage is nil on a server without a ledger.
	usage UsageSource
}

// Route implements RouterService.
func (s *routerService) Route(ctx context.Context, req *weirv1.RouteRequest) (*weirv1.RouteResponse, error) {
	if err := checkRoute(req); err != nil {
		return nil, err
	}
	in := requestOf(req)
	rec, err := s.router.Route(ctx, in)
	if err != nil {
		return nil, s.named(err, &in.Demand)
	}
	return &weirv1.RouteResponse{Decision: decisionOf(&rec)}, nil
}

// named says which model or policy was not found.
func (s *routerService) named(err error, d *router.Demand) error {
	switch {
	case errors.Is(err, router.ErrUnknownPolicy):
		return &namedError{kind: "weir.v1.Policy", name: d.Policy, err: err}
	case errors.Is(err, router.ErrUnknownModel):
		snap := s.store.Acquire()
		defer snap.Release()
		for _, id := range d.Override.Models {
			if _, ok := snap.Rules.Catalog.Model(id); !ok {
				return &namedError{kind: "weir.v1.Model", name: id, err: err}
			}
		}
	}
	return err
}

// ListModels implements RouterService.
func (s *routerService) ListModels(_ context.Context, req *weirv1.ListModelsRequest) (*weirv1.ListModelsResponse, error) {
	if err := checkList(req); err != nil {
		return nil, err
	}
	snap := s.store.Acquire()
	defer snap.Release()
	out := &weirv1.ListModelsResponse{ConfigDigest: snap.Rules.Digest}
	for _, m := range snap.Rules.Catalog.Models() {
		if listed(m, req) {
			model := modelOf(m)
			if s.health != nil {
				addHealth(model, s.health(m))
			}
			out.Models = append(out.Models, model)
		}
	}
	return out, nil
}

func listed(m *router.Model, req *weirv1.ListModelsRequest) bool {
	if t := router.Tier(req.GetTier()); t != 0 && t != m.Tier {
		return false
	}
	if d := req.GetDomain(); d != 0 && !slices.ContainsFunc(m.Domains, func(x classifier.Domain) bool { return weirv1.Domain(x) == d }) {
		return false
	}
	need := capabilitiesOf(req.GetCapabilities())
	return need&^m.Capabilities == 0 && (!req.GetCallableOnly() || m.Callable())
}

// GetDecision implements RouterService.
func (s *routerService) GetDecision(_ context.Context, req *weirv1.GetDecisionRequest) (*weirv1.GetDecisionResponse, error) {
	if err := checkDecision(req); err != nil {
		return nil, err
	}
	rec, outcomes, err := s.router.Decision(req.GetDecisionId())
	if err != nil {
		return nil, namedDecision(err, req.GetDecisionId())
	}
	return &weirv1.GetDecisionResponse{Decision: decisionOf(&rec), Outcomes: outcomesOf(outcomes)}, nil
}

// ReportOutcome implements RouterService.
func (s *routerService) ReportOutcome(_ context.Context, req *weirv1.ReportOutcomeRequest) (*weirv1.ReportOutcomeResponse, error) {
	if err := checkOutcome(req); err != nil {
		return nil, err
	}
	o := router.Outcome{Score: req.GetOutcome().GetScore(), Source: req.GetOutcome().GetSource()}
	if t := req.GetOutcome().GetObserveTime(); t != nil {
		o.Time = t.AsTime()
	}
	duplicate, err := s.router.ReportOutcome(req.GetDecisionId(), req.GetIdempotencyKey(), o)
	if err != nil {
		return nil, namedDecision(err, req.GetDecisionId())
	}
	return &weirv1.ReportOutcomeResponse{Duplicate: duplicate}, nil
}

func namedDecision(err error, id string) error {
	if errors.Is(err, router.ErrUnknownDecision) {
		return &namedError{kind: "weir.v1.Decision", name: id, err: err}
	}
	return err
}
