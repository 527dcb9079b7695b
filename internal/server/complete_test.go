package server

import (
	"context"
	"errors"
	"io"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/weirhq/weir/classifier"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// What the core is asked for holds all that the wire said, and needs what tools
// and forms need.
func TestCompleteOfCarriesEveryField(t *testing.T) {
	temperature, seed := 0.5, int64(7)
	req := &weirv1.CompleteRequest{
		Route: &weirv1.RouteRequest{Input: &weirv1.RouteRequest_Chat{Chat: &weirv1.Chat{Messages: []*weirv1.Message{
			{Role: weirv1.Role_ROLE_USER, Text: "What is this?", Parts: []*weirv1.Part{
				{Part: &weirv1.Part_Media{Media: &weirv1.Media{MimeType: "image/png", Source: &weirv1.Media_Data{Data: []byte("png")}}}},
			}},
			{Role: weirv1.Role_ROLE_ASSISTANT, Parts: []*weirv1.Part{{Part: &weirv1.Part_ToolCall{ToolCall: &weirv1.ToolCall{Id: "c", Name: "look", ArgumentsJson: "{}"}}}}},
			{Role: weirv1.Role_ROLE_TOOL, Parts: []*weirv1.Part{{Part: &weirv1.Part_ToolResult{ToolResult: &weirv1.ToolResult{ToolCallId: "c", Content: "a cat", IsError: true}}}}},
		}}}},
		IdempotencyKey: "k",
		Sampling:       &weirv1.Sampling{Temperature: &temperature, Seed: &seed, Stop: []string{"END"}},
		Tools:          []*weirv1.Tool{{Name: "look", Description: "Looks.", InputSchemaJson: `{"type":"object"}`}},
		ToolChoice:     &weirv1.ToolChoice{Mode: weirv1.ToolMode_TOOL_MODE_NAMED, Name: "look"},
		ResponseFormat: &weirv1.ResponseFormat{Format: &weirv1.ResponseFormat_JsonSchema{JsonSchema: `{"type":"object"}`}},
	}
	require.NoError(t, checkComplete(req))
	got, err := completeOf(req)
	require.NoError(t, err)
	assert.Equal(t, router.Input{
		Messages: []router.ChatMessage{
			{Role: classifier.User, Parts: []router.Part{{Text: "What is this?"}, {Media: &router.Media{MIMEType: "image/png", Data: []byte("png")}}}},
			{Role: classifier.Assistant, Parts: []router.Part{{Call: &router.ToolCall{ID: "c", Name: "look", Arguments: "{}"}}}},
			{Role: classifier.Tool, Parts: []router.Part{{Result: &router.ToolResult{CallID: "c", Content: "a cat", IsError: true}}}},
		},
		Tools:    []router.ToolDefinition{{Name: "look", Description: "Looks.", Schema: []byte(`{"type":"object"}`)}},
		Choice:   router.ToolChoice{Mode: router.ToolsNamed, Name: "look"},
		Format:   router.ResponseFormat{JSONSchema: []byte(`{"type":"object"}`)},
		Sampling: router.Sampling{Temperature: router.Some(0.5), Seed: router.Some[int64](7), Stop: []string{"END"}},
	}, got.Input)
	assert.Equal(t, router.Tools|router.JSON|router.Vision, got.Request.Demand.Required)
	assert.Equal(t, "k", got.IdempotencyKey)
	digest := got.RequestDigest
	req.IdempotencyKey = "another"
	got, err = completeOf(req)
	require.NoError(t, err)
	assert.Equal(t, digest, got.RequestDigest, "the key is no part of what was asked")
	req.Sampling.Stop = []string{"STOP"}
	got, err = completeOf(req)
	require.NoError(t, err)
	assert.NotEqual(t, digest, got.RequestDigest)

	req.ResponseFormat = &weirv1.ResponseFormat{Format: &weirv1.ResponseFormat_JsonObject{JsonObject: true}}
	req.Tools, req.ToolChoice = nil, nil
	got, err = completeOf(req)
	require.NoError(t, err)
	assert.Equal(t, router.JSON, got.Request.Demand.Required&^router.Vision&^router.Tools)
	assert.True(t, got.Input.Format.JSONObject)

	got, err = completeOf(&weirv1.CompleteRequest{Route: textRequest("hi"), Tools: []*weirv1.Tool{{Name: "look", InputSchemaJson: "{}"}}})
	require.NoError(t, err)
	assert.Equal(t, router.Tools, got.Request.Demand.Required, "tools that may be called, though none was yet")
}

// saying yields what it is given, and notes the deadline of the call.
type saying struct {
	events   []router.Event
	err      error
	deadline chan time.Duration
}

func (s *saying) Complete(ctx context.Context, _ *router.CompleteRequest) iter.Seq2[router.Event, error] {
	return func(yield func(router.Event, error) bool) {
		if at, ok := ctx.Deadline(); ok {
			s.deadline <- time.Until(at)
		} else {
			s.deadline <- 0
		}
		for _, e := range s.events {
			if !yield(e, nil) {
				return
			}
		}
		if s.err != nil {
			yield(nil, s.err)
		}
	}
}

// Every kind of piece, and all that an end holds, is there on the wire.
func TestEventsAreOnTheWire(t *testing.T) {
	s := &saying{deadline: make(chan time.Duration, 10), events: []router.Event{
		&router.Delta{Reasoning: "hm"}, &router.Delta{Text: "Yes."}, &router.Delta{Tool: &router.ToolCallDelta{Index: 1, ID: "c", Name: "look", Arguments: "{"}},
		&router.Done{
			Finish: router.FinishToolCalls, Incomplete: "network", Usage: router.Usage{Input: 9, CachedInput: 4, CacheWrite: 2, Output: 7, Reasoning: 3, Estimated: true},
			Cost: 11, CostKnown: true, Receipt: router.Receipt{CallID: "id", Status: "incomplete", Booked: 12, Savings: -5, SavingsKnown: true, Baseline: "b", ScoreCached: true},
			Attempts: []router.AttemptRecord{{Model: "m", Upstream: "u", Outcome: "network", Cost: 11, CostKnown: true, FirstContent: time.Second, Duration: 2 * time.Second}, {Model: "n"}},
		},
	}}
	w := newWorld(t, func(w *world) { w.cfg.Completer, w.cfg.CompleteTimeout = s, time.Hour }).run()
	stream, err := w.client().Complete(t.Context(), &weirv1.CompleteRequest{Route: textRequest("hi")})
	require.NoError(t, err)
	got := drain(t, stream)
	require.Len(t, got, 4)
	assert.Equal(t, "hm", got[0].GetDelta().GetReasoning())
	assert.Equal(t, "Yes.", got[1].GetDelta().GetText())
	call := got[2].GetDelta().GetToolCall()
	assert.Equal(t, []any{int32(1), "c", "look", "{"}, []any{call.GetIndex(), call.GetId(), call.GetName(), call.GetArgumentsJson()})
	done := got[3].GetCompleted()
	assert.Equal(t, weirv1.CompletionStatus_COMPLETION_STATUS_INCOMPLETE, done.GetStatus())
	assert.Equal(t, weirv1.FinishReason_FINISH_REASON_TOOL_CALLS, done.GetFinishReason())
	assert.Equal(t, "network", done.GetIncompleteReason())
	u := done.GetUsage()
	assert.Equal(t, []int64{9, 4, 2, 7, 3}, []int64{u.GetInputTokens(), u.GetCachedInputTokens(), u.GetCacheWriteTokens(), u.GetOutputTokens(), u.GetReasoningTokens()})
	assert.True(t, u.GetEstimated())
	assert.EqualValues(t, 11, done.GetCostNanoUsd())
	r := done.GetReceipt()
	assert.EqualValues(t, -5, r.GetSavingsNanoUsd())
	assert.True(t, r.GetSavingsKnown() && r.GetScoreCached())
	assert.Equal(t, []any{"id", "incomplete", int64(12), "b"}, []any{r.GetDecisionId(), r.GetStatus(), r.GetBookedNanoUsd(), r.GetBaseline()})
	require.Len(t, done.GetAttempts(), 2)
	assert.Equal(t, time.Second, done.GetAttempts()[0].GetTimeToFirstToken().AsDuration())
	assert.Nil(t, done.GetAttempts()[1].TimeToFirstToken)
	assert.Nil(t, done.GetAttempts()[1].CostNanoUsd, "unknown is not zero")
	left := <-s.deadline
	assert.True(t, left > 50*time.Minute && left <= time.Hour, "the server's bound of a completion counts: %s", left)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err = w.client().Complete(ctx, &weirv1.CompleteRequest{Route: textRequest("hi")})
	require.NoError(t, err)
	drain(t, stream)
	assert.LessOrEqual(t, <-s.deadline, time.Minute, "a caller's shorter one counts")
}

func drain(t *testing.T, stream grpc.ServerStreamingClient[weirv1.CompleteResponse]) []*weirv1.CompleteResponse {
	t.Helper()
	var out []*weirv1.CompleteResponse
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		out = append(out, event)
	}
}
