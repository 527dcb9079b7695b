package server

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

// Swapper swaps the model bundle. Its methods are safe for concurrent use. Their
// errors are the ErrBundle… and ErrNo… of this package, wrapped,
// *BundleRefusedError, or a *BundleFaultError.
type Swapper interface {
	// Stage holds the bundle of that name under the root against the gates.
	Stage(ctx context.Context, name string) (StagedBundle, error)
	// Promote publishes the staged bundle, whose digest is given.
	Promote(ctx context.Context, digest string) (Bundle, error)
	// Rollback publishes the bundle that served before.
	Rollback(ctx context.Context) (Bundle, error)
	// Bundles tells what serves and what served.
	Bundles() BundleStatus
}

// Bundle is a model bundle as operators see it.
type Bundle struct {
	Name, Version, Digest             string
	ReferenceEfficient, ReferenceHigh string
	// Since and Until are when it served; zero where it does not, or still does.
	Since, Until time.Time
	// Origin says how it came to serve, Reason why it was rolled back.
	Origin, Reason string
}

// Gate is one check of a candidate.
type Gate struct {
	Name   string
	Passed bool
	Detail string
}

// StagedBundle is a candidate that passed every gate.
type StagedBundle struct {
	Bundle
	Gates []Gate
	// Report is the file of the report for people.
	Report string
}

// BundleStatus is where a swap stands.
type BundleStatus struct {
	Serving Bundle
	// Staged and Previous are nil where there is none.
	Staged, Previous *Bundle
	// SettlesAt is until when the serving bundle is watched; zero when it settled.
	SettlesAt time.Time
	// Refusal is the last candidate that was refused; nil for none.
	Refusal *BundleRefusal
	// History are the times that bundles served, newest first.
	History []Bundle
}

// BundleRefusal is a candidate that was not published.
type BundleRefusal struct {
	Bundle Bundle
	Gates  []Gate
	Time   time.Time
	Report string
}

// The errors of a Swapper.
var (
	ErrBundleName       = errors.New("no plain name of a bundle")
	ErrUnknownBundle    = errors.New("unknown bundle")
	ErrBundleServing    = errors.New("the bundle serves already")
	ErrNoBundleRoot     = errors.New("the server has no bundle root")
	ErrNotStaged        = errors.New("the bundle is not staged")
	ErrNoPreviousBundle = errors.New("no bundle served before")
)

// BundleRefusedError is a candidate that a gate refused.
type BundleRefusedError struct {
	// Gates are those that refused, Report the file of the report for people.
	Gates  []Gate
	Report string
	Err    error
}

func (e *BundleRefusedError) Error() string { return e.Err.Error() }
func (e *BundleRefusedError) Unwrap() error { return e.Err }

// BundleFaultError is a swap that could not be done for a reason that is not the
// candidate's.
type BundleFaultError struct{ Err error }

func (e *BundleFaultError) Error() string { return e.Err.Error() }
func (e *BundleFaultError) Unwrap() error { return e.Err }

// bundleRows are those of the status table.
func bundleRows() []row {
	return []row{
		{is: typed[*BundleRefusedError], code: codes.FailedPrecondition, reason: "BUNDLE_REFUSED"},
		{is: sentinel(ErrBundleName), code: codes.InvalidArgument, reason: "INVALID_BUNDLE_NAME"},
		{is: sentinel(ErrUnknownBundle), code: codes.NotFound, reason: "UNKNOWN_BUNDLE"},
		{is: sentinel(ErrBundleServing), code: codes.AlreadyExists, reason: "BUNDLE_SERVES"},
		{is: sentinel(ErrNoBundleRoot), code: codes.FailedPrecondition, reason: "NO_BUNDLE_ROOT"},
		{is: sentinel(ErrNotStaged), code: codes.FailedPrecondition, reason: "NOT_STAGED"},
		{is: sentinel(ErrNoPreviousBundle), code: codes.FailedPrecondition, reason: "NO_PREVIOUS_BUNDLE"},
		{is: typed[*BundleFaultError], code: codes.Unavailable, reason: "BUNDLE_FAULT"},
	}
}

func refusedBundle(e *BundleRefusedError, info *errdetails.ErrorInfo) *errdetails.PreconditionFailure {
	info.Metadata = map[string]string{"report": e.Report}
	p := &errdetails.PreconditionFailure{}
	for _, g := range e.Gates {
		p.Violations = append(p.Violations, &errdetails.PreconditionFailure_Violation{Type: "GATE", Subject: g.Name, Description: g.Detail})
	}
	return p
}

// StageBundle implements AdminService.
func (s *adminService) StageBundle(ctx context.Context, req *weirv1.StageBundleRequest) (*weirv1.StageBundleResponse, error) {
	if s.swap == nil {
		return nil, &unavailableError{what: noSwap}
	}
	got, err := s.swap.Stage(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &weirv1.StageBundleResponse{Bundle: got.proto(), Gates: gatesProto(got.Gates), Report: got.Report}, nil
}

// PromoteBundle implements AdminService.
func (s *adminService) PromoteBundle(ctx context.Context, req *weirv1.PromoteBundleRequest) (*weirv1.PromoteBundleResponse, error) {
	if s.swap == nil {
		return nil, &unavailableError{what: noSwap}
	}
	if req.GetDigest() == "" {
		f := &faults{}
		f.add("digest", "is empty: give the staged bundle's, so that nothing else is published by accident")
		return nil, f.err()
	}
	got, err := s.swap.Promote(ctx, req.GetDigest())
	if err != nil {
		return nil, err
	}
	return &weirv1.PromoteBundleResponse{Bundle: got.proto()}, nil
}

// RollbackBundle implements AdminService.
func (s *adminService) RollbackBundle(ctx context.Context, _ *weirv1.RollbackBundleRequest) (*weirv1.RollbackBundleResponse, error) {
	if s.swap == nil {
		return nil, &unavailableError{what: noSwap}
	}
	got, err := s.swap.Rollback(ctx)
	if err != nil {
		return nil, err
	}
	return &weirv1.RollbackBundleResponse{Bundle: got.proto()}, nil
}

// GetBundle implements AdminService.
func (s *adminService) GetBundle(context.Context, *weirv1.GetBundleRequest) (*weirv1.GetBundleResponse, error) {
	if s.swap == nil {
		return &weirv1.GetBundleResponse{Serving: s.serving()}, nil
	}
	b := s.swap.Bundles()
	out := &weirv1.GetBundleResponse{
		Serving: b.Serving.proto(), Staged: b.Staged.proto(), Previous: b.Previous.proto(),
		State: weirv1.BundleState_BUNDLE_STATE_STEADY, SettleTime: knownTime(b.SettlesAt),
	}
	if !b.SettlesAt.IsZero() {
		out.State = weirv1.BundleState_BUNDLE_STATE_SETTLING
	}
	if r := b.Refusal; r != nil {
		out.Refusal = &weirv1.BundleRefusal{Bundle: r.Bundle.proto(), Gates: gatesProto(r.Gates), RefuseTime: knownTime(r.Time), Report: r.Report}
	}
	return out, nil
}

// ListBundles implements AdminService. On a server without swap only the serving
// bundle ever served.
func (s *adminService) ListBundles(context.Context, *weirv1.ListBundlesRequest) (*weirv1.ListBundlesResponse, error) {
	if s.swap == nil {
		return &weirv1.ListBundlesResponse{Bundles: []*weirv1.Bundle{s.serving()}}, nil
	}
	out := &weirv1.ListBundlesResponse{}
	for _, b := range s.swap.Bundles().History {
		out.Bundles = append(out.Bundles, b.proto())
	}
	return out, nil
}

// proto is nil for nil.
func (b *Bundle) proto() *weirv1.Bundle {
	if b == nil {
		return nil
	}
	return &weirv1.Bundle{
		Name: b.Name, Version: b.Version, Digest: b.Digest, ReferenceEfficient: b.ReferenceEfficient, ReferenceHigh: b.ReferenceHigh,
		ServeTime: knownTime(b.Since), EndTime: knownTime(b.Until), Origin: b.Origin, EndReason: b.Reason,
	}
}

func gatesProto(gates []Gate) []*weirv1.Gate {
	out := make([]*weirv1.Gate, len(gates))
	for i, g := range gates {
		out[i] = &weirv1.Gate{Name: g.Name, Passed: g.Passed, Detail: g.Detail}
	}
	return out
}
