package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// Completer completes. *router.Router is one. It is safe for concurrent use.
type Completer interface {
	// Complete streams; see router.Router.Complete for events and errors.
	Complete(ctx context.Context, req *router.CompleteRequest) iter.Seq2[router.Event, error]
}

// Complete implements RouterService: the decision, the deltas, one completed,
// and then the status. A slow reader holds the provider back: nothing is
// buffered here beyond gRPC's own window.
func (s *routerService) Complete(req *weirv1.CompleteRequest, stream grpc.ServerStreamingServer[weirv1.CompleteResponse]) error {
	if s.completer == nil {
		return &unavailableError{what: "this server does not complete: call Route and send the prompt to the model that it names"}
	}
	if err := checkComplete(req); err != nil {
		return err
	}
	in, err := completeOf(req)
	if err != nil {
		return err
	}
	ctx := stream.Context()
	if s.completeTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.completeTimeout)
		defer cancel()
	}
	for event, err := range s.completer.Complete(ctx, in) {
		if err != nil {
			return s.named(err, &in.Request.Demand)
		}
		// Where the reader is gone, leaving the loop ends the provider's stream
		// and settles the call.
		if err := stream.Send(eventOf(event)); err != nil {
			return err //nolint:wrapcheck // a status of the transport's own
		}
	}
	return nil
}

// completeOf turns a checked request into the core's.
func completeOf(req *weirv1.CompleteRequest) (*router.CompleteRequest, error) {
	route := requestOf(req.GetRoute())
	out := &router.CompleteRequest{Request: *route, Input: inputOf(req), IdempotencyKey: req.GetIdempotencyKey()}
	if len(out.Input.Tools) > 0 {
		out.Request.Demand.Required |= router.Tools
	}
	for _, t := range out.Input.Tools {
		out.Request.OtherBytes += len(t.Name) + len(t.Description) + len(t.Schema)
	}
	if f := out.Input.Format; f.JSONObject || len(f.JSONSchema) > 0 {
		out.Request.Demand.Required |= router.JSON
		out.Request.OtherBytes += len(f.JSONSchema)
	}
	if out.IdempotencyKey != "" {
		digest, err := requestDigest(req)
		if err != nil {
			return nil, err
		}
		out.RequestDigest = digest
	}
	return out, nil
}

// requestDigest identifies a request apart from its idempotency key.
func requestDigest(req *weirv1.CompleteRequest) (string, error) {
	bare, ok := proto.Clone(req).(*weirv1.CompleteRequest)
	if !ok {
		return "", fmt.Errorf("digest of the request: it is a %T", req)
	}
	bare.IdempotencyKey = ""
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(bare)
	if err != nil {
		return "", fmt.Errorf("digest of the request: %w", err)
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

func eventOf(e router.Event) *weirv1.CompleteResponse {
	switch e := e.(type) {
	case *router.Decided:
		return &weirv1.CompleteResponse{Event: &weirv1.CompleteResponse_Decision{Decision: decisionOf(&e.Record)}}
	case *router.Delta:
		return &weirv1.CompleteResponse{Event: &weirv1.CompleteResponse_Delta{Delta: deltaOf(e)}}
	case *router.Done:
		return &weirv1.CompleteResponse{Event: &weirv1.CompleteResponse_Completed{Completed: completedOf(e)}}
	default:
		return &weirv1.CompleteResponse{}
	}
}

func deltaOf(d *router.Delta) *weirv1.Delta {
	switch {
	case d.Tool != nil:
		return &weirv1.Delta{Piece: &weirv1.Delta_ToolCall{ToolCall: &weirv1.ToolCallDelta{
			Index: int32(d.Tool.Index), Id: d.Tool.ID, Name: d.Tool.Name, ArgumentsJson: d.Tool.Arguments, //nolint:gosec // a handful of calls
		}}}
	case d.Reasoning != "":
		return &weirv1.Delta{Piece: &weirv1.Delta_Reasoning{Reasoning: d.Reasoning}}
	default:
		return &weirv1.Delta{Piece: &weirv1.Delta_Text{Text: d.Text}}
	}
}

func completedOf(d *router.Done) *weirv1.Completed {
	out := &weirv1.Completed{
		Status: weirv1.CompletionStatus_COMPLETION_STATUS_INCOMPLETE, FinishReason: weirv1.FinishReason(d.Finish),
		IncompleteReason: d.Incomplete, Usage: usageTokens(&d.Usage), Receipt: receiptOf(&d.Receipt),
	}
	if d.Complete {
		out.Status = weirv1.CompletionStatus_COMPLETION_STATUS_COMPLETE
	}
	if d.CostKnown {
		out.CostNanoUsd = proto.Int64(int64(d.Cost))
	}
	for i := range d.Attempts {
		out.Attempts = append(out.Attempts, attemptOf(&d.Attempts[i]))
	}
	return out
}

func attemptOf(a *router.AttemptRecord) *weirv1.Attempt {
	out := &weirv1.Attempt{
		Model: a.Model, Provider: a.Upstream, Outcome: a.Outcome, Usage: usageTokens(&a.Usage), Duration: durationpb.New(a.Duration),
	}
	if a.CostKnown {
		out.CostNanoUsd = proto.Int64(int64(a.Cost))
	}
	if a.FirstContent > 0 {
		out.TimeToFirstToken = durationpb.New(a.FirstContent)
	}
	return out
}

func receiptOf(r *router.Receipt) *weirv1.Receipt {
	return &weirv1.Receipt{
		DecisionId: r.CallID, PriceVersion: r.PriceVersion, BookedNanoUsd: int64(r.Booked), Baseline: r.Baseline,
		Status: r.Status, Open: r.Open, SavingsNanoUsd: int64(r.Savings), SavingsKnown: r.SavingsKnown,
		ScoreCached: r.ScoreCached,
	}
}

// DefaultCompleteTimeout bounds a completion whose client set no shorter
// deadline: long enough for a long answer of a model that thinks first.
const DefaultCompleteTimeout = 10 * time.Minute
