package router

import "fmt"

// Reason is why the chosen model was chosen.
type Reason uint8

// The reasons, in the order of the wire's enumeration.
const (
	CheapestGoodEnough Reason = iota + 1
	QualityNeeded
	Specialist
	BestEffort
	ByOverride
	ByRule
	SessionPinned
	ClassifierUnavailable
	TradeOff
)

// String returns the reason as metrics and logs spell it.
func (r Reason) String() string {
	names := [...]string{"cheapest_good_enough", "quality_needed", "domain_specialist", "best_effort", "override", "rule", "session_pinned", "classifier_unavailable", "trade_off"}
	if r < 1 || int(r) > len(names) {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return names[r-1]
}

func (r Reason) phrase() string {
	switch r {
	case CheapestGoodEnough:
		return "it is the cheapest that is good enough"
	case QualityNeeded:
		return "what is cheaper is not good enough"
	case Specialist:
		return "it is a specialist of the field and the cheapest that is good enough"
	case BestEffort:
		return "no model reaches min_quality, this one comes nearest"
	case ByOverride:
		return "the request named it"
	case ByRule:
		return "a rule of the config named it"
	case SessionPinned:
		return "the session keeps to it"
	case TradeOff:
		return "it is the best trade of cost and quality at the asked alpha"
	default:
		return r.String()
	}
}

// Rejection is why a candidate was not eligible, or not chosen.
type Rejection uint8

// The rejections, in the order of the wire's enumeration. A candidate gets the
// first that applies; models, capabilities and windows come before scores.
const (
	RejectedNotNamed Rejection = iota + 1
	RejectedNotAllowed
	RejectedDenied
	RejectedBelowMinTier
	RejectedAboveMaxTier
	RejectedCapability
	RejectedContextWindow
	RejectedMaxCost
	RejectedMaxPrice
	RejectedPriceUnknown
	RejectedMaxTTFT
	RejectedDomain
	RejectedProvider
	RejectedNotCallable
	RejectedQuality
	RejectedDearer
	RejectedSession
	numRejections
)

// String returns the rejection as metrics and logs spell it.
func (r Rejection) String() string {
	names := [...]string{"not_named", "not_allowed", "denied", "below_min_tier", "above_max_tier", "capability", "context_window", "max_cost", "max_price", "price_unknown", "max_ttft", "domain", "provider", "not_callable", "quality", "dearer", "session"}
	if r < 1 || r >= numRejections {
		return fmt.Sprintf("rejection(%d)", uint8(r))
	}
	return names[r-1]
}
