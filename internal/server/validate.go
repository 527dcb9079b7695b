package server

import (
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// The bounds of a request. They keep the work of one request, and the size of
// what the journal keeps of it, small.
const (
	maxMessages   = 1000
	maxParts      = 1000 // of all messages together
	maxListed     = 100  // names or globs in one list
	maxNameBytes  = 256  // of a model's id, a policy's or provider's, a glob
	maxSession    = 128
	maxMetadata   = 16
	maxKeyBytes   = 64
	maxValueBytes = 256
	maxSource     = 32
	maxURLBytes   = 2048
	maxTTFTLimit  = time.Hour
)

// checkRoute reports everything that is wrong with a route request.
func checkRoute(r *weirv1.RouteRequest) error {
	f := &faults{}
	checkInput(f, r)
	checkName(f, "policy", r.GetPolicy())
	checkOverride(f, r)
	checkLimits(f, r.GetLimits())
	checkGlobs(f, "allow_models", r.GetAllowModels())
	checkGlobs(f, "deny_models", r.GetDenyModels())
	checkCapabilities(f, "required_capabilities", r.GetRequiredCapabilities())
	checkProvider(f, r.GetProvider())
	checkLength(f, "session_id", r.GetSessionId(), maxSession)
	checkLength(f, "conversation_id", r.GetConversationId(), maxSession)
	checkMetadata(f, r.GetMetadata())
	checkLength(f, "intent", r.GetIntent(), maxKeyBytes)
	if n := r.GetMaxOutputTokens(); n < 0 {
		f.add("max_output_tokens", "is %d: want 1 or more, or 0 for the model's limit", n)
	}
	return f.err()
}

func checkOverride(f *faults, r *weirv1.RouteRequest) {
	named := 0
	if r.GetModel() != "" {
		named++
		checkName(f, "model", r.GetModel())
	}
	if len(r.GetModels()) > 0 {
		named++
		checkNames(f, "models", r.GetModels())
	}
	if r.GetTier() != weirv1.Tier_TIER_UNSPECIFIED {
		named++
		checkEnum(f, "tier", r.GetTier())
	}
	if named > 1 {
		f.add("model", "%d of model, models and tier are set: set at most one", named)
	}
}

func checkLimits(f *faults, l *weirv1.Limits) {
	if l == nil {
		return
	}
	checkShare(f, "limits.min_quality", l.MinQuality)
	checkShare(f, "limits.max_quality_gap", l.MaxQualityGap)
	checkShare(f, "limits.alpha", l.Alpha)
	checkShare(f, "limits.specialist_min_confidence", l.SpecialistMinConfidence)
	checkShare(f, "limits.specialist_min_margin", l.SpecialistMinMargin)
	checkMoney(f, "limits.max_cost_nano_usd", l.MaxCostNanoUsd)
	checkMoney(f, "limits.max_price_per_million_output_tokens_nano_usd", l.MaxPricePerMillionOutputTokensNanoUsd)
	checkTTFT(f, "limits.max_ttft", l.GetMaxTtft())
	low := checkBoundTier(f, "limits.min_tier", l.GetMinTier())
	high := checkBoundTier(f, "limits.max_tier", l.GetMaxTier())
	if low && high && l.GetMinTier() > l.GetMaxTier() {
		f.add("limits.min_tier", "%s is above max_tier %s: lower one or raise the other", l.GetMinTier(), l.GetMaxTier())
	}
}

// checkBoundTier tells whether the field holds a tier that can bound.
func checkBoundTier(f *faults, field string, t weirv1.Tier) bool {
	switch {
	case t == weirv1.Tier_TIER_UNSPECIFIED:
		return false
	case t == weirv1.Tier_TIER_DOMAIN_SPECIALIST:
		f.add(field, "is TIER_DOMAIN_SPECIALIST, which is no step of the order: use TIER_EFFICIENT or TIER_HIGH_PERFORMANCE; a specialist counts as the tier it stands in for")
		return false
	default:
		return checkEnum(f, field, t)
	}
}

func checkShare(f *faults, field string, v *float64) {
	if v != nil && !(*v >= 0 && *v <= 1) {
		f.add(field, "is %v: want a number from 0 to 1", *v)
	}
}

func checkMoney(f *faults, field string, v *int64) {
	if v != nil && *v < 0 {
		f.add(field, "is %d nano-dollars: want 0 or more, or leave it out for no limit", *v)
	}
}

func checkTTFT(f *faults, field string, d *durationpb.Duration) {
	switch {
	case d == nil:
	case d.CheckValid() != nil:
		f.add(field, "is no valid duration: seconds and nanos must have one sign and be in range")
	case d.AsDuration() <= 0 || d.AsDuration() > maxTTFTLimit:
		f.add(field, "is %s: want more than 0 and at most %s, or leave it out for no limit", d.AsDuration(), maxTTFTLimit)
	}
}

func checkProvider(f *faults, p *weirv1.ProviderRules) {
	if p == nil {
		return
	}
	checkNames(f, "provider.order", p.GetOrder())
	checkNames(f, "provider.only", p.GetOnly())
	checkNames(f, "provider.ignore", p.GetIgnore())
	if p.GetDataCollection() != weirv1.DataCollection_DATA_COLLECTION_UNSPECIFIED {
		checkEnum(f, "provider.data_collection", p.GetDataCollection())
	}
}

// checkMetadata names no key: it is the caller's text.
func checkMetadata(f *faults, m map[string]string) {
	if len(m) > maxMetadata {
		f.add("metadata", "has %d keys: use at most %d", len(m), maxMetadata)
	}
	longKey, longValue, empty := 0, 0, false
	for k, v := range m {
		longKey, longValue = max(longKey, len(k)), max(longValue, len(v))
		empty = empty || k == ""
	}
	if empty {
		f.add("metadata", "has an empty key: name it or leave it out")
	}
	if longKey > maxKeyBytes {
		f.add("metadata", "has a key of %d bytes: use at most %d", longKey, maxKeyBytes)
	}
	if longValue > maxValueBytes {
		f.add("metadata", "has a value of %d bytes: use at most %d", longValue, maxValueBytes)
	}
}

// checkGlobs reports malformed globs by their place in the list.
func checkGlobs(f *faults, field string, globs []string) {
	checkCount(f, field, len(globs))
	for i, g := range globs[:min(len(globs), maxListed)] {
		switch {
		case g == "":
			f.add(at(field, i), "is empty: write a glob such as anthropic/*, or leave it out")
		case len(g) > maxNameBytes:
			f.add(at(field, i), "has %d bytes: use at most %d", len(g), maxNameBytes)
		case router.CheckGlob(g) != nil:
			f.add(at(field, i), "is no well-formed glob: close every bracket and end no glob with a backslash; * and ? need none")
		}
	}
}

func checkNames(f *faults, field string, names []string) {
	checkCount(f, field, len(names))
	for i, n := range names[:min(len(names), maxListed)] {
		if n == "" {
			f.add(at(field, i), "is empty: name it or leave it out")
		}
		checkName(f, at(field, i), n)
	}
}

func checkCount(f *faults, field string, n int) {
	if n > maxListed {
		f.add(field, "has %d entries: use at most %d", n, maxListed)
	}
}

func checkName(f *faults, field, name string) { checkLength(f, field, name, maxNameBytes) }

func checkLength(f *faults, field, s string, most int) {
	if len(s) > most {
		f.add(field, "has %d bytes: use at most %d", len(s), most)
	}
}

func checkCapabilities(f *faults, field string, cs []weirv1.Capability) {
	checkCount(f, field, len(cs))
	for i, c := range cs[:min(len(cs), maxListed)] {
		checkEnum(f, at(field, i), c)
	}
}

// checkEnum reports a number that the enumeration does not know, or its zero,
// and tells whether it was well.
func checkEnum(f *faults, field string, e protoreflect.Enum) bool {
	n := e.Number()
	values := e.Descriptor().Values()
	if n != 0 && values.ByNumber(n) != nil {
		return true
	}
	names := make([]string, 0, values.Len())
	for i := range values.Len() {
		if v := values.Get(i); v.Number() != 0 {
			names = append(names, string(v.Name()))
		}
	}
	f.add(field, "is %d, which is no value of the enumeration: use one of %s", n, strings.Join(names, ", "))
	return false
}

// checkList reports what is wrong with a filter of the catalog.
func checkList(r *weirv1.ListModelsRequest) error {
	f := &faults{}
	if r.GetTier() != weirv1.Tier_TIER_UNSPECIFIED {
		checkEnum(f, "tier", r.GetTier())
	}
	if r.GetDomain() != weirv1.Domain_DOMAIN_UNSPECIFIED {
		checkEnum(f, "domain", r.GetDomain())
	}
	checkCapabilities(f, "capabilities", r.GetCapabilities())
	return f.err()
}

// checkOutcome reports what is wrong with an outcome's report.
func checkOutcome(r *weirv1.ReportOutcomeRequest) error {
	f := &faults{}
	checkDecisionID(f, r.GetDecisionId())
	checkLength(f, "idempotency_key", r.GetIdempotencyKey(), maxSession)
	o := r.GetOutcome()
	switch {
	case o == nil:
		f.add("outcome", "is missing: give its score")
		return f.err()
	case o.Score == nil:
		f.add("outcome.score", "is missing: give a number from 0, useless, to 1, as good as could be")
	case math.IsNaN(o.GetScore()) || o.GetScore() < 0 || o.GetScore() > 1:
		f.add("outcome.score", "is %v: want a number from 0 to 1", o.GetScore())
	}
	checkLength(f, "outcome.source", o.GetSource(), maxSource)
	if t := o.GetObserveTime(); t != nil && t.CheckValid() != nil {
		f.add("outcome.observe_time", "is no valid time: want years 1 to 9999 and nanos from 0 to 999999999")
	}
	return f.err()
}

func checkDecision(r *weirv1.GetDecisionRequest) error {
	f := &faults{}
	checkDecisionID(f, r.GetDecisionId())
	return f.err()
}

// checkDecisionID does not show what it was given: it may be anything.
func checkDecisionID(f *faults, id string) {
	if id == "" {
		f.add("decision_id", "is missing: give the decision_id of a decision")
	} else if !isDecisionID(id) {
		f.add("decision_id", "is no decision's id: want a UUID as a decision has it, 36 characters in lower case")
	}
}

func isDecisionID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
