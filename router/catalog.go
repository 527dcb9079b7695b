package router

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/weirhq/weir/classifier"
)

// Tier is a class of models: Efficient < HighPerformance. A DomainSpecialist
// says which of the two it stands in for.
type Tier uint8

// The tiers.
const (
	Efficient Tier = iota + 1
	HighPerformance
	DomainSpecialist
)

// String returns the tier's name as configs spell it.
func (t Tier) String() string {
	switch t {
	case Efficient:
		return "EFFICIENT"
	case HighPerformance:
		return "HIGH_PERFORMANCE"
	case DomainSpecialist:
		return "DOMAIN_SPECIALIST"
	default:
		return fmt.Sprintf("TIER(%d)", uint8(t))
	}
}

// ParseTier returns the tier of that name. The error lists the names.
func ParseTier(s string) (Tier, error) {
	for _, t := range []Tier{Efficient, HighPerformance, DomainSpecialist} {
		if t.String() == s {
			return t, nil
		}
	}
	return 0, fmt.Errorf("tier %q is unknown: use EFFICIENT, HIGH_PERFORMANCE or DOMAIN_SPECIALIST", s)
}

// Capabilities is a set of what a model can do.
type Capabilities uint16

// The capabilities.
const (
	Tools Capabilities = 1 << iota
	JSON
	Vision
	Audio
	Documents
	Reasoning
)

const capabilityNames = "tools json vision audio documents reasoning"

// Names lists the set's members as configs spell them.
func (c Capabilities) Names() []string {
	var out []string
	for i, n := range strings.Fields(capabilityNames) {
		if c&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return out
}

// ParseCapability returns the capability of that name. The error lists the names.
func ParseCapability(s string) (Capabilities, error) {
	for i, n := range strings.Fields(capabilityNames) {
		if n == s {
			return 1 << i, nil
		}
	}
	return 0, fmt.Errorf("capability %q is unknown: use one of %s", s, strings.Join(strings.Fields(capabilityNames), ", "))
}

// DataCollection says what an upstream may do with the text it is sent.
type DataCollection uint8

// The data policies. An unstated one counts as DataAllow.
const (
	DataAllow DataCollection = iota + 1
	DataDeny
)

// Upstream is a provider's endpoint.
type Upstream struct {
	ID      string
	Dialect string // openai, anthropic or gemini
	BaseURL string
	// KeyEnv and KeyFile say where the key is; both empty for a server without keys.
	KeyEnv, KeyFile string
	Data            DataCollection
	Region          string
	// AllowPrivate is whether the base URL's host, though a public name, may
	// resolve to a private address.
	AllowPrivate bool
	// Proxy is the http(s) address of the proxy that calls go through; "" for none.
	Proxy string
	// Timeouts are the upstream's own; a zero one is the completion rules'.
	Timeouts Timeouts
	// Callable is whether the key was found when the config was read.
	Callable bool
}

// Deployment is one way to call a model.
type Deployment struct {
	Upstream *Upstream
	// Name is the model's name at the upstream.
	Name string
	// Price is what the model costs here where that is not the model's own
	// price; nil elsewhere. It is never dearer than the model's in any kind, so
	// that a bound computed from the model's holds wherever a call lands.
	Price *Price
	// Weight counts with ByWeight; RPM, TPM and MaxParallel bound the requests
	// and tokens a minute and the calls at once, 0 for no bound.
	Weight      float64
	RPM, TPM    int64
	MaxParallel int
}

// QualityCurve is a model's expected quality: sigmoid(Intercept +
// Efficient*logit(q_efficient) + High*logit(q_high) + Domain[d]), fitted from
// outcomes.
type QualityCurve struct {
	Intercept, Efficient, High float64
	Domain                     [classifier.NumDomains]float64
	// HalfWidth is half the 90 % interval, in logits.
	HalfWidth float64
	// Evidence says from what it was fitted.
	Evidence string
}

// Model is a card of the catalog. It is immutable.
type Model struct {
	ID          string
	Tier        Tier
	StandsInFor Tier // of a specialist: Efficient or HighPerformance
	Domains     []classifier.Domain
	// ContextWindow bounds input and output together, MaxOutputTokens the output.
	ContextWindow, MaxOutputTokens int64
	Modalities                     []string
	Capabilities                   Capabilities
	Price                          Price
	// TokenRatio is provider tokens a classifier token, an upper estimate.
	TokenRatio float64
	// TTFT is the expected time to the first token; 0 when unknown.
	TTFT            time.Duration
	TokensPerSecond float64 // 0 when unknown
	// Quality is nil when unmeasured.
	Quality     *QualityCurve
	Fallbacks   []string
	Deployments []Deployment
	// Strategy chooses among the deployments.
	Strategy Strategy

	rates upperRates
	// place is where it stands in its catalog.
	place int32
}

// EffectiveTier is the tier that the model counts as: a specialist counts as
// the one it stands in for.
func (m *Model) EffectiveTier() Tier {
	if m.Tier == DomainSpecialist {
		return m.StandsInFor
	}
	return m.Tier
}

// PriceAt is what a call costs at a deployment of the model. Settle with it;
// decide with the model's own price, which bounds them all.
func (m *Model) PriceAt(d Deployment) Price {
	if d.Price != nil {
		return *d.Price
	}
	return m.Price
}

// Callable tells whether at least one deployment has its key.
func (m *Model) Callable() bool {
	for _, d := range m.Deployments {
		if d.Upstream.Callable {
			return true
		}
	}
	return false
}

// Catalog is the models in the config's order. It is immutable.
type Catalog struct {
	models    []*Model
	byID      map[string]*Model
	maxWindow int64
}

func newCatalog(models []*Model) *Catalog {
	c := &Catalog{models: models, byID: make(map[string]*Model, len(models))}
	for i, m := range models {
		m.place = int32(i)
		m.rates = m.Price.upper()
		c.byID[m.ID] = m
		c.maxWindow = max(c.maxWindow, m.ContextWindow)
	}
	return c
}

// Models returns the cards in the config's order. Do not change the slice.
func (c *Catalog) Models() []*Model { return c.models }

// Model returns the card of that id.
func (c *Catalog) Model(id string) (*Model, bool) {
	m, ok := c.byID[id]
	return m, ok
}

// matchAny tells whether a model id matches one of the globs; * also matches
// the slash of an id.
func matchAny(globs []string, id string) bool {
	flat := "" // the id without slashes, made once and only for a pattern
	for _, g := range globs {
		if !strings.ContainsAny(g, `*?[\`) {
			if g == id {
				return true
			}
			continue
		}
		if flat == "" {
			flat = strings.ReplaceAll(id, "/", "\x01")
		}
		if ok, err := path.Match(strings.ReplaceAll(g, "/", "\x01"), flat); err == nil && ok {
			return true
		}
	}
	return false
}

// CheckGlob reports a malformed glob.
func CheckGlob(glob string) error {
	if _, err := path.Match(glob, ""); err != nil {
		return fmt.Errorf("glob %q is malformed: use *, ? and [a-z]", glob)
	}
	return nil
}
