package telemetry

import (
	"errors"

	"github.com/weirhq/weir/classifier"
)

// domainName is a domain's label.
func domainName(d uint8) string {
	if d == 0 {
		return unscored
	}
	return classifier.Domain(d).String()
}

func classifierErrorKind(err error) string {
	switch {
	case errors.Is(err, classifier.ErrOverloaded):
		return "overloaded"
	case errors.Is(err, classifier.ErrInvalidText), errors.Is(err, classifier.ErrNoContent):
		return "invalid_text"
	default:
		return "internal"
	}
}
