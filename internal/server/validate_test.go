package server

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

func ptr[T any](v T) *T { return &v }

func limits(l *weirv1.Limits) *weirv1.RouteRequest {
	r := textRequest("hello")
	r.Limits = l
	return r
}

func provider(p *weirv1.ProviderRules) *weirv1.RouteRequest {
	r := textRequest("hello")
	r.Provider = p
	return r
}

func with(change func(*weirv1.RouteRequest)) *weirv1.RouteRequest {
	r := textRequest("hello")
	change(r)
	return r
}

func chat(messages ...*weirv1.Message) *weirv1.RouteRequest {
	return &weirv1.RouteRequest{Input: &weirv1.RouteRequest_Chat{Chat: &weirv1.Chat{Messages: messages}}}
}

func user(parts ...*weirv1.Part) *weirv1.Message {
	return &weirv1.Message{Role: weirv1.Role_ROLE_USER, Text: "look", Parts: parts}
}

func media(mime string, data []byte) *weirv1.Part {
	return &weirv1.Part{Part: &weirv1.Part_Media{Media: &weirv1.Media{MimeType: mime, Source: &weirv1.Media_Data{Data: data}}}}
}

func mediaURL(url string) *weirv1.Part {
	return &weirv1.Part{Part: &weirv1.Part_Media{Media: &weirv1.Media{MimeType: "image/png", Source: &weirv1.Media_Url{Url: url}}}}
}

func many(n int, s string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// paths of a validation error; nil when there was none.
func faultPaths(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var invalid *invalidError
	require.ErrorAs(t, err, &invalid)
	for _, v := range invalid.violations {
		assert.NotEmpty(t, v.GetDescription())
	}
	return invalid.fields()
}

func TestCheckRoute(t *testing.T) {
	long := strings.Repeat("x", maxNameBytes+1)
	tooMany := make([]*weirv1.Message, maxMessages+1)
	for i := range tooMany {
		tooMany[i] = user()
	}
	manyParts := make([]*weirv1.Part, maxParts+1)
	for i := range manyParts {
		manyParts[i] = &weirv1.Part{Part: &weirv1.Part_Text{Text: "x"}}
	}
	bigMap := map[string]string{}
	for i := range maxMetadata + 1 {
		bigMap[strings.Repeat("k", i+1)] = "v"
	}
	tests := []struct {
		name string
		req  *weirv1.RouteRequest
		want []string // the paths of the faults, in order; none for a good request
	}{
		{"text", textRequest("hello"), nil},
		{"no input", &weirv1.RouteRequest{}, []string{"input"}},
		{"empty text", textRequest(""), []string{"text"}},
		{"white space", textRequest(" \n\t\u00a0"), []string{"text"}},
		{"empty chat", chat(), []string{"chat.messages"}},
		{"chat without a user", chat(&weirv1.Message{Role: weirv1.Role_ROLE_SYSTEM, Text: "be brief"}), []string{"chat.messages"}},
		{"chat with a blank user", chat(&weirv1.Message{Role: weirv1.Role_ROLE_USER, Text: " "}), []string{"chat.messages"}},
		{"user text in a part", chat(&weirv1.Message{Role: weirv1.Role_ROLE_USER, Parts: manyParts[:1]}), nil},
		{"role unspecified", chat(user(), &weirv1.Message{Text: "x"}), []string{"chat.messages[1].role"}},
		{"role unknown", chat(user(), &weirv1.Message{Role: 9, Text: "x"}), []string{"chat.messages[1].role"}},
		{"empty message", chat(user(), &weirv1.Message{Role: weirv1.Role_ROLE_ASSISTANT}), []string{"chat.messages[1]"}},
		{"empty part", chat(user(&weirv1.Part{})), []string{"chat.messages[0].parts[0]"}},
		{"empty text part", chat(user(&weirv1.Part{Part: &weirv1.Part_Text{}})), []string{"chat.messages[0].parts[0].text"}},
		{"1,000 messages", chat(tooMany[1:]...), nil},
		{"1,001 messages", chat(tooMany...), []string{"chat.messages"}},
		{"1,000 parts", chat(user(manyParts[1:]...)), nil},
		{"1,001 parts", chat(user(manyParts[1:]...), user(manyParts[0])), []string{"chat.messages[1].parts"}},
		{"image", chat(user(media("image/png", []byte("x")))), nil},
		{"media without content", chat(user(media("image/png", nil))), []string{"chat.messages[0].parts[0].media.data"}},
		{"media without source", chat(user(&weirv1.Part{Part: &weirv1.Part_Media{Media: &weirv1.Media{MimeType: "image/png"}}})), []string{"chat.messages[0].parts[0].media"}},
		{"media type missing", chat(user(media("", []byte("x")))), []string{"chat.messages[0].parts[0].media.mime_type"}},
		{"media type unknown", chat(user(media("video/mp4", []byte("x")))), []string{"chat.messages[0].parts[0].media.mime_type"}},
		{"media by http", chat(user(mediaURL("http://example.com/a.png"))), []string{"chat.messages[0].parts[0].media.url"}},
		{"media by file", chat(user(mediaURL("file:///etc/passwd"))), []string{"chat.messages[0].parts[0].media.url"}},
		{"media by https", chat(user(mediaURL("https://example.com/a.png"))), nil},
		{"tool call of a user", chat(user(&weirv1.Part{Part: &weirv1.Part_ToolCall{ToolCall: &weirv1.ToolCall{Name: "f"}}})), []string{"chat.messages[0].parts[0].tool_call"}},
		{"tool call without name", chat(user(), &weirv1.Message{Role: weirv1.Role_ROLE_ASSISTANT, Parts: []*weirv1.Part{{Part: &weirv1.Part_ToolCall{ToolCall: &weirv1.ToolCall{}}}}}), []string{"chat.messages[1].parts[0].tool_call.name"}},
		{"tool result of a user", chat(user(&weirv1.Part{Part: &weirv1.Part_ToolResult{ToolResult: &weirv1.ToolResult{ToolCallId: "1"}}})), []string{"chat.messages[0].parts[0].tool_result"}},
		{"tool result without id", chat(user(), &weirv1.Message{Role: weirv1.Role_ROLE_TOOL, Parts: []*weirv1.Part{{Part: &weirv1.Part_ToolResult{ToolResult: &weirv1.ToolResult{}}}}}), []string{"chat.messages[1].parts[0].tool_result.tool_call_id"}},

		{"policy too long", with(func(r *weirv1.RouteRequest) { r.Policy = long }), []string{"policy"}},
		{"model", with(func(r *weirv1.RouteRequest) { r.Model = "a" }), nil},
		{"model too long", with(func(r *weirv1.RouteRequest) { r.Model = long }), []string{"model"}},
		{"model and models", with(func(r *weirv1.RouteRequest) { r.Model, r.Models = "a", []string{"b"} }), []string{"model"}},
		{"model and tier", with(func(r *weirv1.RouteRequest) { r.Model, r.Tier = "a", weirv1.Tier_TIER_EFFICIENT }), []string{"model"}},
		{"models and tier", with(func(r *weirv1.RouteRequest) { r.Models, r.Tier = []string{"a"}, weirv1.Tier_TIER_EFFICIENT }), []string{"model"}},
		{"empty model in the list", with(func(r *weirv1.RouteRequest) { r.Models = []string{"a", ""} }), []string{"models[1]"}},
		{"100 models", with(func(r *weirv1.RouteRequest) { r.Models = many(maxListed, "a") }), nil},
		{"101 models", with(func(r *weirv1.RouteRequest) { r.Models = many(maxListed+1, "a") }), []string{"models"}},
		{"specialist tier", with(func(r *weirv1.RouteRequest) { r.Tier = weirv1.Tier_TIER_DOMAIN_SPECIALIST }), nil},
		{"tier unknown", with(func(r *weirv1.RouteRequest) { r.Tier = 4 }), []string{"tier"}},
		{"tier negative", with(func(r *weirv1.RouteRequest) { r.Tier = -1 }), []string{"tier"}},

		{"min_quality ends", limits(&weirv1.Limits{MinQuality: ptr(0.0), MaxQualityGap: ptr(1.0)}), nil},
		{"min_quality NaN", limits(&weirv1.Limits{MinQuality: ptr(math.NaN())}), []string{"limits.min_quality"}},
		{"min_quality infinite", limits(&weirv1.Limits{MinQuality: ptr(math.Inf(1))}), []string{"limits.min_quality"}},
		{"min_quality negative", limits(&weirv1.Limits{MinQuality: ptr(-0.01)}), []string{"limits.min_quality"}},
		{"max_quality_gap above 1", limits(&weirv1.Limits{MaxQualityGap: ptr(1.01)}), []string{"limits.max_quality_gap"}},
		{"max_quality_gap NaN", limits(&weirv1.Limits{MaxQualityGap: ptr(math.NaN())}), []string{"limits.max_quality_gap"}},
		{"alpha NaN", limits(&weirv1.Limits{Alpha: ptr(math.NaN())}), []string{"limits.alpha"}},
		{"alpha -Inf", limits(&weirv1.Limits{Alpha: ptr(math.Inf(-1))}), []string{"limits.alpha"}},
		{"cost 0", limits(&weirv1.Limits{MaxCostNanoUsd: ptr(int64(0))}), nil},
		{"cost negative", limits(&weirv1.Limits{MaxCostNanoUsd: ptr(int64(-1))}), []string{"limits.max_cost_nano_usd"}},
		{"price negative", limits(&weirv1.Limits{MaxPricePerMillionOutputTokensNanoUsd: ptr(int64(math.MinInt64))}), []string{"limits.max_price_per_million_output_tokens_nano_usd"}},
		{"ttft", limits(&weirv1.Limits{MaxTtft: durationpb.New(time.Second)}), nil},
		{"ttft negative", limits(&weirv1.Limits{MaxTtft: durationpb.New(-time.Second)}), []string{"limits.max_ttft"}},
		{"ttft zero", limits(&weirv1.Limits{MaxTtft: &durationpb.Duration{}}), []string{"limits.max_ttft"}},
		{"ttft mixed signs", limits(&weirv1.Limits{MaxTtft: &durationpb.Duration{Seconds: 1, Nanos: -1}}), []string{"limits.max_ttft"}},
		{"ttft overflow", limits(&weirv1.Limits{MaxTtft: &durationpb.Duration{Seconds: 300_000_000_000}}), []string{"limits.max_ttft"}},
		{"min tier specialist", limits(&weirv1.Limits{MinTier: weirv1.Tier_TIER_DOMAIN_SPECIALIST}), []string{"limits.min_tier"}},
		{"max tier specialist", limits(&weirv1.Limits{MaxTier: weirv1.Tier_TIER_DOMAIN_SPECIALIST}), []string{"limits.max_tier"}},
		{"min tier unknown", limits(&weirv1.Limits{MinTier: 77}), []string{"limits.min_tier"}},
		{"tiers equal", limits(&weirv1.Limits{MinTier: 2, MaxTier: 2}), nil},
		{"min tier above max", limits(&weirv1.Limits{MinTier: 2, MaxTier: 1}), []string{"limits.min_tier"}},

		{"globs", with(func(r *weirv1.RouteRequest) { r.AllowModels, r.DenyModels = []string{"a*", "?b"}, []string{"[ab]c"} }), nil},
		{"allow glob malformed", with(func(r *weirv1.RouteRequest) { r.AllowModels = []string{"a*", "[a"} }), []string{"allow_models[1]"}},
		{"deny glob malformed", with(func(r *weirv1.RouteRequest) { r.DenyModels = []string{"a\\"} }), []string{"deny_models[0]"}},
		{"glob empty", with(func(r *weirv1.RouteRequest) { r.DenyModels = []string{""} }), []string{"deny_models[0]"}},
		{"glob too long", with(func(r *weirv1.RouteRequest) { r.AllowModels = []string{long} }), []string{"allow_models[0]"}},
		{"too many globs", with(func(r *weirv1.RouteRequest) { r.AllowModels = many(maxListed+1, "a") }), []string{"allow_models"}},
		{"capability unspecified", with(func(r *weirv1.RouteRequest) { r.RequiredCapabilities = []weirv1.Capability{1, 0} }), []string{"required_capabilities[1]"}},
		{"capability unknown", with(func(r *weirv1.RouteRequest) { r.RequiredCapabilities = []weirv1.Capability{7} }), []string{"required_capabilities[0]"}},
		{"provider rules", provider(&weirv1.ProviderRules{Order: []string{"a"}, DataCollection: 2}), nil},
		{"provider order empty name", provider(&weirv1.ProviderRules{Order: []string{""}}), []string{"provider.order[0]"}},
		{"provider only too many", provider(&weirv1.ProviderRules{Only: many(maxListed+1, "a")}), []string{"provider.only"}},
		{"provider ignore too long", provider(&weirv1.ProviderRules{Ignore: []string{long}}), []string{"provider.ignore[0]"}},
		{"data collection unknown", provider(&weirv1.ProviderRules{DataCollection: 3}), []string{"provider.data_collection"}},

		{"session of 128", with(func(r *weirv1.RouteRequest) { r.SessionId = strings.Repeat("s", 128) }), nil},
		{"session of 129", with(func(r *weirv1.RouteRequest) { r.SessionId = strings.Repeat("s", 129) }), []string{"session_id"}},
		{"conversation of 129", with(func(r *weirv1.RouteRequest) { r.ConversationId = strings.Repeat("s", 129) }), []string{"conversation_id"}},
		{"metadata at its bounds", with(func(r *weirv1.RouteRequest) {
			r.Metadata = map[string]string{strings.Repeat("k", 64): strings.Repeat("v", 256)}
		}), nil},
		{"17 metadata keys", with(func(r *weirv1.RouteRequest) { r.Metadata = bigMap }), []string{"metadata"}},
		{"metadata key of 65", with(func(r *weirv1.RouteRequest) { r.Metadata = map[string]string{strings.Repeat("k", 65): ""} }), []string{"metadata"}},
		{"metadata value of 257", with(func(r *weirv1.RouteRequest) { r.Metadata = map[string]string{"k": strings.Repeat("v", 257)} }), []string{"metadata"}},
		{"metadata key empty", with(func(r *weirv1.RouteRequest) { r.Metadata = map[string]string{"": "v"} }), []string{"metadata"}},
		{"max output negative", with(func(r *weirv1.RouteRequest) { r.MaxOutputTokens = -1 }), []string{"max_output_tokens"}},
		{"all at once", &weirv1.RouteRequest{
			Limits: &weirv1.Limits{MinQuality: ptr(2.0), MaxCostNanoUsd: ptr(int64(-5))}, Tier: 9, MaxOutputTokens: -3,
		}, []string{"input", "tier", "limits.min_quality", "limits.max_cost_nano_usd", "max_output_tokens"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, faultPaths(t, checkRoute(tt.req)))
		})
	}
}

func TestCheckRouteNamesValueAndRemedy(t *testing.T) {
	err := checkRoute(limits(&weirv1.Limits{MinQuality: ptr(1.5), MinTier: 7}))
	require.Error(t, err)
	assert.Contains(t, err.Error(), "limits.min_quality: is 1.5: want a number from 0 to 1")
	assert.Contains(t, err.Error(), "limits.min_tier: is 7, which is no value of the enumeration: use one of TIER_EFFICIENT, TIER_HIGH_PERFORMANCE")
}

func TestCheckRouteBoundsItsAnswer(t *testing.T) {
	messages := make([]*weirv1.Message, maxMessages)
	for i := range messages {
		messages[i] = &weirv1.Message{}
	}
	err := checkRoute(chat(messages...))
	assert.Len(t, faultPaths(t, err), maxViolations)
	assert.Less(t, len(err.Error()), 2000)
	assert.Contains(t, err.Error(), "and 1996 more") // two a message, and no user: 2,001 in all, 5 shown
}

func TestCheckList(t *testing.T) {
	assert.Nil(t, faultPaths(t, checkList(&weirv1.ListModelsRequest{Tier: 3, Domain: 8, Capabilities: []weirv1.Capability{6}})))
	got := faultPaths(t, checkList(&weirv1.ListModelsRequest{Tier: 4, Domain: 9, Capabilities: []weirv1.Capability{0}}))
	assert.Equal(t, []string{"tier", "domain", "capabilities[0]"}, got)
}

func TestCheckOutcome(t *testing.T) {
	const id = "0190f3a2-7b1c-7def-8123-456789abcdef"
	good := func() *weirv1.ReportOutcomeRequest {
		return &weirv1.ReportOutcomeRequest{DecisionId: id, Outcome: &weirv1.Outcome{Score: ptr(0.5), Source: "user", ObserveTime: timestamppb.Now()}}
	}
	tests := []struct {
		name   string
		change func(*weirv1.ReportOutcomeRequest)
		want   []string
	}{
		{"good", func(*weirv1.ReportOutcomeRequest) {}, nil},
		{"score 0 is a score", func(r *weirv1.ReportOutcomeRequest) { r.Outcome.Score = ptr(0.0) }, nil},
		{"no id", func(r *weirv1.ReportOutcomeRequest) { r.DecisionId = "" }, []string{"decision_id"}},
		{"id too short", func(r *weirv1.ReportOutcomeRequest) { r.DecisionId = id[1:] }, []string{"decision_id"}},
		{"id in capitals", func(r *weirv1.ReportOutcomeRequest) { r.DecisionId = strings.ToUpper(id) }, []string{"decision_id"}},
		{"id without dashes", func(r *weirv1.ReportOutcomeRequest) { r.DecisionId = strings.ReplaceAll(id, "-", "0") }, []string{"decision_id"}},
		{"no outcome", func(r *weirv1.ReportOutcomeRequest) { r.Outcome = nil }, []string{"outcome"}},
		{"no score", func(r *weirv1.ReportOutcomeRequest) { r.Outcome.Score = nil }, []string{"outcome.score"}},
		{"score NaN", func(r *weirv1.ReportOutcomeRequest) { r.Outcome.Score = ptr(math.NaN()) }, []string{"outcome.score"}},
		{"score above 1", func(r *weirv1.ReportOutcomeRequest) { r.Outcome.Score = ptr(1.1) }, []string{"outcome.score"}},
		{"source too long", func(r *weirv1.ReportOutcomeRequest) { r.Outcome.Source = strings.Repeat("s", 33) }, []string{"outcome.source"}},
		{"time invalid", func(r *weirv1.ReportOutcomeRequest) { r.Outcome.ObserveTime = &timestamppb.Timestamp{Nanos: -1} }, []string{"outcome.observe_time"}},
		{"key too long", func(r *weirv1.ReportOutcomeRequest) { r.IdempotencyKey = strings.Repeat("k", 129) }, []string{"idempotency_key"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := good()
			tt.change(r)
			assert.Equal(t, tt.want, faultPaths(t, checkOutcome(r)))
		})
	}
}
