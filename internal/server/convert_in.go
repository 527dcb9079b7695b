package server

import (
	"strings"

	"github.com/weirhq/weir/classifier"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// requestOf turns a checked request into the core's. The enumerations of wire
// and core have the same numbers; a test holds that.
func requestOf(r *weirv1.RouteRequest) *router.Request {
	out := &router.Request{
		SessionID: r.GetSessionId(), ConversationID: r.GetConversationId(),
		Metadata: r.GetMetadata(), Intent: r.GetIntent(), Explain: r.GetExplain(),
		Demand: router.Demand{
			Policy:          r.GetPolicy(),
			Override:        router.Override{Models: r.GetModels(), Tier: router.Tier(r.GetTier())},
			Limits:          limitsOf(r.GetLimits()),
			Allow:           r.GetAllowModels(),
			Deny:            r.GetDenyModels(),
			Required:        capabilitiesOf(r.GetRequiredCapabilities()),
			CallableOnly:    r.GetCallableOnly(),
			Provider:        providerOf(r.GetProvider()),
			MaxOutputTokens: r.GetMaxOutputTokens(),
		},
	}
	if m := r.GetModel(); m != "" {
		out.Demand.Override.Models = []string{m}
	}
	if chat := r.GetChat(); chat != nil {
		addChat(out, chat.GetMessages())
	} else {
		out.Messages = []classifier.Message{{Role: classifier.User, Text: r.GetText()}}
	}
	return out
}

// addChat counts what is not text, and requires what it takes to read it.
func addChat(out *router.Request, messages []*weirv1.Message) {
	out.Messages = make([]classifier.Message, len(messages))
	for i, m := range messages {
		text, before := m.GetText(), out.MediaParts
		if len(m.GetParts()) > 0 {
			text = addParts(out, m)
		}
		out.Messages[i] = classifier.Message{Role: classifier.Role(m.GetRole()), Text: text, Media: out.MediaParts > before}
	}
}

// addParts returns the message's text: its texts joined by a newline.
func addParts(out *router.Request, m *weirv1.Message) string {
	texts := make([]string, 0, 1+len(m.GetParts()))
	if m.GetText() != "" {
		texts = append(texts, m.GetText())
	}
	for _, part := range m.GetParts() {
		switch p := part.GetPart().(type) {
		case *weirv1.Part_Text:
			texts = append(texts, p.Text)
		case *weirv1.Part_Media:
			c, _ := mediaCapability(p.Media.GetMimeType())
			out.Demand.Required |= c
			out.MediaParts++
			out.OtherBytes += router.MediaBytes(p.Media.GetMimeType(), len(p.Media.GetData()))
		case *weirv1.Part_ToolCall:
			out.Demand.Required |= router.Tools
			out.OtherBytes += len(p.ToolCall.GetId()) + len(p.ToolCall.GetName()) + len(p.ToolCall.GetArgumentsJson())
		case *weirv1.Part_ToolResult:
			out.Demand.Required |= router.Tools
			out.OtherBytes += len(p.ToolResult.GetToolCallId()) + len(p.ToolResult.GetContent())
		}
	}
	return strings.Join(texts, "\n")
}

func limitsOf(l *weirv1.Limits) router.Limits {
	if l == nil {
		return router.Limits{}
	}
	out := router.Limits{
		MinQuality:     optional(l.MinQuality),
		MaxQualityGap:  optional(l.MaxQualityGap),
		MaxCost:        money(l.MaxCostNanoUsd),
		MaxOutputPrice: money(l.MaxPricePerMillionOutputTokensNanoUsd),
		Alpha:          optional(l.Alpha),
		MinTier:        tierOf(l.GetMinTier()),
		MaxTier:        tierOf(l.GetMaxTier()),
		AllowDowngrade: optional(l.AllowDowngrade),

		SpecialistConfidence: optional(l.SpecialistMinConfidence),
		SpecialistMargin:     optional(l.SpecialistMinMargin),
	}
	if d := l.GetMaxTtft(); d != nil {
		out.MaxTTFT = router.Some(d.AsDuration())
	}
	return out
}

func optional[T any](v *T) router.Opt[T] {
	if v == nil {
		return router.Opt[T]{}
	}
	return router.Some(*v)
}

func money(v *int64) router.Opt[router.NanoUSD] {
	if v == nil {
		return router.Opt[router.NanoUSD]{}
	}
	return router.Some(router.NanoUSD(*v))
}

func tierOf(t weirv1.Tier) router.Opt[router.Tier] {
	if t == weirv1.Tier_TIER_UNSPECIFIED {
		return router.Opt[router.Tier]{}
	}
	return router.Some(router.Tier(t))
}

func capabilitiesOf(cs []weirv1.Capability) router.Capabilities {
	var out router.Capabilities
	for _, c := range cs {
		out |= 1 << (c - 1)
	}
	return out
}

func providerOf(p *weirv1.ProviderRules) router.ProviderRules {
	if p == nil {
		return router.ProviderRules{}
	}
	return router.ProviderRules{
		Order: p.GetOrder(), Only: p.GetOnly(), Ignore: p.GetIgnore(),
		AllowFallbacks:    optional(p.AllowFallbacks),
		RequireParameters: p.GetRequireParameters(),
		Data:              router.DataCollection(p.GetDataCollection()),
	}
}
