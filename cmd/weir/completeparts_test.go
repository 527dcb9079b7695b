package main

import (
	"encoding/base64"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// Tools as MCP defines them, an image and a JSON schema go to each dialect in its
// own words; reasoning, calls and counts come back in one.
func TestToolsImagesAndReasoningInEveryDialect(t *testing.T) {
	s := startCompleting(t, "")
	const schema = `{"type":"object","properties":{"city":{"type":"string","description":"where the kumquats grow"}},"required":["city"]}`
	image := []byte("not really a picture")
	for dialect, words := range map[string][]string{
		"openai":    {`"parameters"`, `"image_url"`, "data:image/png;base64," + base64.StdEncoding.EncodeToString(image), `"json_object"`},
		"anthropic": {`"input_schema"`, `"media_type":"image/png"`, base64.StdEncoding.EncodeToString(image)},
		"gemini":    {`"functionDeclarations"`, `"inlineData"`, base64.StdEncoding.EncodeToString(image)},
	} {
		t.Run(dialect, func(t *testing.T) {
			s.provider.Always(upstreamtest.Answer{
				Reasoning: []string{"A city ", "is meant."}, Text: []string{"I look."},
				Tools: []upstreamtest.Tool{{ID: "call_1", Name: "weather", Arguments: []string{`{"city":`, `"Lund"}`}}},
				Usage: &router.Usage{Input: 50, CachedInput: 20, Output: 30, Reasoning: 10},
			})
			before := len(s.provider.Requests())
			req := &weirv1.CompleteRequest{
				Route: &weirv1.RouteRequest{Model: "fake/" + dialect, MaxOutputTokens: 100, Input: &weirv1.RouteRequest_Chat{Chat: &weirv1.Chat{Messages: []*weirv1.Message{{
					Role: weirv1.Role_ROLE_USER, Text: "What is the weather here?",
					Parts: []*weirv1.Part{{Part: &weirv1.Part_Media{Media: &weirv1.Media{MimeType: "image/png", Source: &weirv1.Media_Data{Data: image}}}}},
				}}}}},
				Tools: []*weirv1.Tool{{Name: "weather", Description: "The weather of a city.", InputSchemaJson: schema}},
			}
			if dialect == "openai" { // a JSON mode beside tools is not in every dialect
				req.ResponseFormat = &weirv1.ResponseFormat{Format: &weirv1.ResponseFormat_JsonObject{JsonObject: true}}
			}
			stream, err := s.client.Complete(t.Context(), req)
			require.NoError(t, err)
			var reasoning, text, arguments, id, name string
			var done *weirv1.Completed
			for {
				event, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				reasoning += event.GetDelta().GetReasoning()
				text += event.GetDelta().GetText()
				if call := event.GetDelta().GetToolCall(); call != nil {
					arguments, id, name = arguments+call.GetArgumentsJson(), id+call.GetId(), name+call.GetName()
				}
				if c := event.GetCompleted(); c != nil {
					done = c
				}
			}
			assert.Equal(t, "A city is meant.", reasoning)
			assert.Equal(t, "I look.", text)
			assert.JSONEq(t, `{"city":"Lund"}`, arguments)
			assert.Equal(t, "weather", name)
			assert.Equal(t, "call_1", id)
			assert.Equal(t, weirv1.FinishReason_FINISH_REASON_TOOL_CALLS, done.GetFinishReason())
			u := done.GetUsage()
			assert.Equal(t, []int64{50, 20, 30, 10}, []int64{u.GetInputTokens(), u.GetCachedInputTokens(), u.GetOutputTokens(), u.GetReasoningTokens()})
			requests := s.provider.Requests()
			require.Len(t, requests, before+1)
			for _, word := range append(words, `"weather"`, "where the kumquats grow") {
				assert.Contains(t, string(requests[before].Body), word)
			}
		})
	}

	none := askModel("fake/openai")
	none.Tools = []*weirv1.Tool{{Name: "x", InputSchemaJson: "{}"}}
	none.Route.RequiredCapabilities = []weirv1.Capability{weirv1.Capability_CAPABILITY_AUDIO}
	got := complete(t.Context(), t, s.client, none)
	assert.Equal(t, codes.FailedPrecondition, status.Code(got.err), "no model here hears")
}
