package server

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weirhq/weir/classifier"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// The conversions count on wire and core having the same numbers.
func TestEnumerationsAgree(t *testing.T) {
	same := func(e protoreflect.Enum, prefix, core string) {
		t.Helper()
		v := e.Descriptor().Values().ByNumber(e.Number())
		require.NotNil(t, v)
		assert.Equal(t, prefix+strings.ToUpper(core), string(v.Name()))
	}
	for _, tier := range []router.Tier{router.Efficient, router.HighPerformance, router.DomainSpecialist} {
		same(weirv1.Tier(tier), "TIER_", tier.String())
	}
	for _, d := range classifier.Domains() {
		same(weirv1.Domain(d), "DOMAIN_", d.String())
	}
	for r := router.CheapestGoodEnough; r <= router.TradeOff; r++ {
		same(weirv1.Reason(r), "REASON_", r.String())
	}
	assert.Equal(t, int(router.TradeOff)+1, weirv1.Reason(0).Descriptor().Values().Len())
	for r := router.RejectedNotNamed; r <= router.RejectedSession; r++ {
		same(weirv1.Rejection(r), "REJECTION_", r.String())
	}
	assert.Equal(t, int(router.RejectedSession)+1, weirv1.Rejection(0).Descriptor().Values().Len())
	for c := weirv1.Capability_CAPABILITY_TOOLS; int(c) < c.Descriptor().Values().Len(); c++ {
		set := capabilitiesOf([]weirv1.Capability{c})
		require.Len(t, set.Names(), 1)
		same(c, "CAPABILITY_", set.Names()[0])
		assert.Equal(t, []weirv1.Capability{c}, capabilitiesList(set))
	}
	assert.Equal(t, weirv1.DataCollection_DATA_COLLECTION_ALLOW, weirv1.DataCollection(router.DataAllow))
	assert.Equal(t, weirv1.DataCollection_DATA_COLLECTION_DENY, weirv1.DataCollection(router.DataDeny))
	assert.Equal(t, weirv1.Role_ROLE_SYSTEM, weirv1.Role(classifier.System))
	assert.Equal(t, weirv1.Role_ROLE_USER, weirv1.Role(classifier.User))
	assert.Equal(t, weirv1.Role_ROLE_ASSISTANT, weirv1.Role(classifier.Assistant))
	assert.Equal(t, weirv1.Role_ROLE_TOOL, weirv1.Role(classifier.Tool))
	assert.Equal(t, weirv1.Source_SOURCE_REQUEST, weirv1.Source(router.FromRequest))
	assert.Equal(t, weirv1.Source_SOURCE_POLICY, weirv1.Source(router.FromPolicy))
	assert.Equal(t, weirv1.Source_SOURCE_DEFAULT, weirv1.Source(router.FromDefault))
	assert.Equal(t, weirv1.Source_SOURCE_RULE, weirv1.Source(router.FromRule))
	assert.Equal(t, weirv1.Source_SOURCE_SESSION, weirv1.Source(router.FromSession))
	assert.Equal(t, int(router.FromSession)+1, weirv1.Source(0).Descriptor().Values().Len())
}

func TestRequestOfCarriesEveryField(t *testing.T) {
	in := &weirv1.RouteRequest{
		Input: &weirv1.RouteRequest_Text{Text: "hi"}, Policy: "p", Models: []string{"a", "b"}, Tier: 2,
		Limits: &weirv1.Limits{
			MinQuality: ptr(0.1), MaxQualityGap: ptr(0.0), MaxCostNanoUsd: ptr(int64(7)),
			MaxPricePerMillionOutputTokensNanoUsd: ptr(int64(8)), MaxTtft: durationpb.New(9 * time.Millisecond),
			Alpha: ptr(0.2), MinTier: 1, MaxTier: 2, AllowDowngrade: ptr(false),
			SpecialistMinConfidence: ptr(0.3), SpecialistMinMargin: ptr(0.4),
		},
		AllowModels: []string{"a*"}, DenyModels: []string{"b*"}, RequiredCapabilities: []weirv1.Capability{1, 6}, CallableOnly: true,
		Provider:  &weirv1.ProviderRules{Order: []string{"x"}, Only: []string{"y"}, Ignore: []string{"z"}, AllowFallbacks: ptr(false), RequireParameters: true, DataCollection: 2},
		SessionId: "s", ConversationId: "c", Metadata: map[string]string{"k": "v"}, MaxOutputTokens: 99, Explain: true, Intent: "review",
	}
	// Every field but the two that exclude those above is set, so that a new one
	// cannot be forgotten here.
	unset := map[string]bool{"model": true, "chat": true}
	m := in.ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		assert.Equal(t, !unset[string(f.Name())], m.Has(f), "field %s", f.Name())
	}
	assert.Equal(t, &router.Request{
		Messages:  []classifier.Message{{Role: classifier.User, Text: "hi"}},
		SessionID: "s", ConversationID: "c", Metadata: map[string]string{"k": "v"}, Explain: true, Intent: "review",
		Demand: router.Demand{
			Policy: "p", Override: router.Override{Models: []string{"a", "b"}, Tier: router.HighPerformance},
			Limits: router.Limits{
				MinQuality: router.Some(0.1), MaxQualityGap: router.Some(0.0), MaxCost: router.Some(router.NanoUSD(7)),
				MaxOutputPrice: router.Some(router.NanoUSD(8)), MaxTTFT: router.Some(9 * time.Millisecond), Alpha: router.Some(0.2),
				MinTier: router.Some(router.Efficient), MaxTier: router.Some(router.HighPerformance), AllowDowngrade: router.Some(false),
				SpecialistConfidence: router.Some(0.3), SpecialistMargin: router.Some(0.4),
			},
			Allow: []string{"a*"}, Deny: []string{"b*"}, Required: router.Tools | router.Reasoning, CallableOnly: true,
			Provider: router.ProviderRules{
				Order: []string{"x"}, Only: []string{"y"}, Ignore: []string{"z"},
				AllowFallbacks: router.Some(false), RequireParameters: true, Data: router.DataDeny,
			},
			MaxOutputTokens: 99,
		},
	}, requestOf(in))
}

func TestRequestOfLeavesAbsentLimitsAbsent(t *testing.T) {
	got := requestOf(&weirv1.RouteRequest{Input: &weirv1.RouteRequest_Text{Text: "hi"}, Limits: &weirv1.Limits{}, Provider: &weirv1.ProviderRules{}})
	assert.Equal(t, router.Demand{}, got.Demand)
	got = requestOf(&weirv1.RouteRequest{Input: &weirv1.RouteRequest_Text{Text: "hi"}, Model: "m"})
	assert.Equal(t, []string{"m"}, got.Demand.Override.Models)
}

func TestRequestOfCountsWhatIsNotText(t *testing.T) {
	got := requestOf(chat(
		&weirv1.Message{Role: weirv1.Role_ROLE_SYSTEM, Text: "sys"},
		&weirv1.Message{Role: weirv1.Role_ROLE_USER, Text: "first", Parts: []*weirv1.Part{
			media("image/png", []byte("12345")), {Part: &weirv1.Part_Text{Text: "second"}}, media("audio/wav", []byte("1")), media("application/pdf", []byte("1")),
		}},
		&weirv1.Message{Role: weirv1.Role_ROLE_ASSISTANT, Parts: []*weirv1.Part{
			{Part: &weirv1.Part_ToolCall{ToolCall: &weirv1.ToolCall{Id: "1", Name: "fn", ArgumentsJson: "{}"}}},
		}},
		&weirv1.Message{Role: weirv1.Role_ROLE_TOOL, Parts: []*weirv1.Part{
			{Part: &weirv1.Part_ToolResult{ToolResult: &weirv1.ToolResult{ToolCallId: "1", Content: "four"}}},
		}},
	))
	assert.Equal(t, []classifier.Message{
		{Role: classifier.System, Text: "sys"}, {Role: classifier.User, Text: "first\nsecond", Media: true}, {Role: classifier.Assistant}, {Role: classifier.Tool},
	}, got.Messages)
	assert.Equal(t, 3, got.MediaParts)
	assert.Equal(t, 1+2+2+1+4, got.OtherBytes)
	assert.Equal(t, router.Vision|router.Audio|router.Documents|router.Tools, got.Demand.Required)
}

// TestRequestOfMeasuresFiles: a text that comes as a file is as long as one that does
// not; a picture's size says nothing.
func TestRequestOfMeasuresFiles(t *testing.T) {
	for mime, want := range map[string]int{"text/plain": 3200, "Text/CSV": 3200, "application/pdf": 1200, "audio/wav": 600, "image/png": 0} {
		got := requestOf(chat(&weirv1.Message{Role: weirv1.Role_ROLE_USER, Text: "sum up", Parts: []*weirv1.Part{media(mime, make([]byte, 3200))}}))
		assert.Equal(t, want, got.OtherBytes, mime)
		assert.Equal(t, 1, got.MediaParts, mime)
	}
}

func testRecord(scored bool, ranked, rejected int) *router.Record {
	m := &router.Model{ID: "m", Tier: router.DomainSpecialist, StandsInFor: router.Efficient}
	c := router.Candidate{
		Model: m, Quality: classifier.Estimate{Value: .7, Low: .6, High: .8}, Unmeasured: true,
		Expected: 10, P90: 20, Bound: 30, PriceKnown: true, InputTokens: 1, OutputTokens: 2, P90Output: 3, MaxOutput: 4,
	}
	d := router.Decision{
		Chosen: c, Reason: router.BestEffort, Policy: "p", Scored: scored, Best: .9, MinQualityMet: true,
		Limits: []router.Applied{{Name: "max_cost", Value: "$1.00", Source: router.FromPolicy, Binding: true}},
		Scores: classifier.Scores{
			QEfficient: classifier.Estimate{Value: .4, Low: .3, High: .6}, QHigh: classifier.Estimate{Value: .8, Low: .7, High: .9},
			Domains: [classifier.NumDomains]float64{1: 1}, OutputTokens: 5, OutputTokensP90: 6, InputTokens: 7, TruncatedTokens: 2,
			TokensEstimated: true, OutOfDistribution: true, Lane: "fast",
		},
	}
	for range ranked {
		d.Ranked = append(d.Ranked, c)
	}
	for range rejected {
		r := c
		r.Rejection, r.Detail, r.PriceKnown = router.RejectedDenied, "denied", false
		d.Rejected = append(d.Rejected, r)
	}
	return &router.Record{
		ID: "id", Time: time.Unix(5, 6).UTC(), Decision: d, Provider: "up", BundleDigest: "b", ConfigDigest: "c",
		Classify: 1, Decide: 2, Total: 3, Propensity: 1, SessionID: "s", Metadata: map[string]string{"k": "v"},
	}
}

func TestDecisionOfIsExact(t *testing.T) {
	rec := testRecord(true, 1, 0)
	got := decisionOf(rec)
	domains := make([]*weirv1.DomainProbability, 8)
	for i := range domains {
		domains[i] = &weirv1.DomainProbability{Domain: weirv1.Domain(i + 1)}
	}
	domains[1].Probability = 1
	want := &weirv1.Decision{
		DecisionId: "id", CreateTime: &timestamppb.Timestamp{Seconds: 5, Nanos: 6}, Model: "m", Tier: 3, Provider: "up",
		Reason: weirv1.Reason_REASON_BEST_EFFORT, Explanation: rec.Decision.Explanation(), Policy: "p",
		Scores: &weirv1.Scores{
			Complexity: 1 - .4, ComplexityInterval: &weirv1.Interval{Low: 1 - .6, High: 1 - .3}, Gain: rec.Decision.Scores.Gain(),
			QEfficient: .4, QEfficientInterval: &weirv1.Interval{Low: .3, High: .6}, QHigh: .8, QHighInterval: &weirv1.Interval{Low: .7, High: .9},
			Domain: 2, DomainProbabilities: domains, InputTokens: 7, TruncatedTokens: 2, TokensEstimated: true,
			OutputTokens: 5, OutputTokensP90: 6, OutOfDistribution: true, Lane: "fast",
		},
		EstimatedCostNanoUsd: ptr(int64(10)), CostBoundNanoUsd: ptr(int64(30)), MaxOutputTokens: 4,
		ExpectedQuality: .7, QualityGap: rec.Decision.Best - .7, MinQualityMet: true,
		Candidates: []*weirv1.Candidate{{
			Model: "m", Tier: 3, ExpectedQuality: .7, QualityInterval: &weirv1.Interval{Low: .6, High: .8}, Unmeasured: true,
			EstimatedCostNanoUsd: ptr(int64(10)), P90CostNanoUsd: ptr(int64(20)), ExpectedOutputTokens: 2,
		}},
		Limits:       []*weirv1.AppliedLimit{{Name: "max_cost", Value: "$1.00", Source: weirv1.Source_SOURCE_POLICY, Binding: true}},
		BundleDigest: "b", ConfigDigest: "c", Propensity: 1, EngineVersion: router.EngineVersion,
		Timings: &weirv1.Timings{Classify: &durationpb.Duration{Nanos: 1}, Decide: &durationpb.Duration{Nanos: 2}, Total: &durationpb.Duration{Nanos: 3}},
	}
	assert.True(t, proto.Equal(want, got), "want %v\ngot  %v", want, got)
	assert.LessOrEqual(t, got.GetScores().GetComplexityInterval().GetLow(), got.GetScores().GetComplexity())
}

func TestDecisionOfUnscoredAndUnpriced(t *testing.T) {
	rec := testRecord(false, 1, 0)
	rec.Decision.Chosen.PriceKnown = false
	got := decisionOf(rec)
	assert.Nil(t, got.GetScores(), "an unscored prompt must not look like a scored one")
	assert.Nil(t, got.EstimatedCostNanoUsd, "an unknown price is not free")
	assert.Nil(t, got.CostBoundNanoUsd)
	assert.Nil(t, got.GetCandidates()[0].GetQualityInterval())
}

func TestCandidates(t *testing.T) {
	rec := testRecord(true, 7, 3)
	assert.Len(t, decisionOf(rec).GetCandidates(), router.BestCandidates)
	rec.Explain = true
	all := decisionOf(rec).GetCandidates()
	require.Len(t, all, 10)
	assert.Equal(t, weirv1.Rejection_REJECTION_UNSPECIFIED, all[6].GetRejection())
	assert.Equal(t, weirv1.Rejection_REJECTION_DENIED, all[7].GetRejection())
	assert.Equal(t, "denied", all[9].GetRejectionDetail())
	assert.Nil(t, all[9].EstimatedCostNanoUsd)
	rec = testRecord(true, 2, 3)
	assert.Len(t, decisionOf(rec).GetCandidates(), 2, "rejected candidates are for explain only")
}

func TestModelOf(t *testing.T) {
	rules := testRules(t, testConfig)
	models := rules.Catalog.Models()
	strong := modelOf(models[0])
	want := &weirv1.Model{
		Id: "alpha/strong", Tier: 2, ContextWindow: 200000, MaxOutputTokens: 16000, Modalities: []string{"text", "image"},
		Capabilities: []weirv1.Capability{1, 2, 3},
		Price: &weirv1.Price{
			InputPerMillionNanoUsd: ptr(int64(3e9)), CachedInputPerMillionNanoUsd: ptr(int64(3e8)), OutputPerMillionNanoUsd: ptr(int64(15e9)),
			Source: "test", Date: "2026-01-02",
		},
		Deployments: []*weirv1.Deployment{{Provider: "alpha", Name: "strong", Callable: true, DataCollection: 2, Region: "eu"}},
		Ttft:        durationpb.New(800 * time.Millisecond), Unmeasured: true, Callable: true,
	}
	assert.True(t, proto.Equal(want, strong), "want %v\ngot  %v", want, strong)
	coder := modelOf(models[3])
	assert.Equal(t, weirv1.Tier_TIER_EFFICIENT, coder.GetStandsInFor())
	assert.Equal(t, []weirv1.Domain{weirv1.Domain_DOMAIN_CODING}, coder.GetDomains())
	assert.Nil(t, coder.GetTtft(), "an unknown time is not zero")
}
