package classifier

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// Band is where the fast classifier cannot tell and the base classifier is asked:
// between two gains, ends included, and wherever the likeliest domain is less likely
// than DomainBelow. 0 leaves the domain out of it.
type Band struct {
	Low, High   float64
	DomainBelow float64
}

func (b Band) holds(s *Scores) bool {
	if gain := s.Gain(); gain >= b.Low && gain <= b.High {
		return true
	}
	_, likely := s.Domain()
	return likely < b.DomainBelow
}

// Cascade asks Fast first and Base only where Fast's scores lie inside the band.
// The zero Cascade is not usable; make one by NewCascade.
type Cascade struct {
	fast, base Classifier
	band       Band
	info       Info
}

// NewCascade joins two classifiers under one identity. It refuses a band that
// is empty or not a number, and a probability outside 0..1.
func NewCascade(fast, base Classifier, band Band, info Info) (*Cascade, error) {
	if fast == nil || base == nil {
		return nil, fmt.Errorf("cascade needs a fast and a base classifier")
	}
	if math.IsNaN(band.Low) || math.IsNaN(band.High) || band.Low > band.High {
		return nil, fmt.Errorf("cascade band %v..%v is empty: low must not be above high", band.Low, band.High)
	}
	if !(band.DomainBelow >= 0 && band.DomainBelow <= 1) {
		return nil, fmt.Errorf("cascade asks below a domain's probability of %v: give 0 to 1", band.DomainBelow)
	}
	return &Cascade{fast: fast, base: base, band: band, info: info}, nil
}

// Classify implements Classifier. The answer's Lane says who gave it. When Base
// is overloaded, or not done when ctx's time is up, the answer of Fast stands: a
// wider error beats no score. A caller's cancellation is an error.
func (c *Cascade) Classify(ctx context.Context, text string) (Scores, error) {
	s, err := c.fast.Classify(ctx, text)
	if err != nil {
		return Scores{}, err
	}
	if !c.band.holds(&s) {
		return s, nil
	}
	deep, err := c.base.Classify(ctx, text)
	switch {
	case err == nil:
		return deep, nil
	case errors.Is(err, ErrOverloaded), errors.Is(ctx.Err(), context.DeadlineExceeded):
		return s, nil
	default:
		return Scores{}, err
	}
}

// Info implements Classifier.
func (c *Cascade) Info() Info { return c.info }
