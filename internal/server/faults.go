package server

import (
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

// maxViolations bounds what one answer lists, so that a large wrong request
// does not get a larger answer.
const maxViolations = 50

// faults collects everything that is wrong with a request. What it is given
// never holds a text of the caller's, but for names that the caller chose from
// the catalog or the config, cut short.
type faults struct {
	violations []*errdetails.BadRequest_FieldViolation
	dropped    int
}

// add notes a fault: the field's path and a sentence with value and remedy.
func (f *faults) add(field, format string, args ...any) {
	if len(f.violations) == maxViolations {
		f.dropped++
		return
	}
	f.violations = append(f.violations, &errdetails.BadRequest_FieldViolation{Field: field, Description: fmt.Sprintf(format, args...)})
}

// err is nil when nothing was wrong.
func (f *faults) err() error {
	if len(f.violations) == 0 {
		return nil
	}
	return &invalidError{violations: f.violations, dropped: f.dropped}
}

// invalidError means that a request is wrong.
type invalidError struct {
	violations []*errdetails.BadRequest_FieldViolation
	dropped    int
}

// Error lists the first faults; the details have them all.
func (e *invalidError) Error() string {
	const shown = 5
	var parts []string
	for i, v := range e.violations {
		if i == shown {
			parts = append(parts, fmt.Sprintf("and %d more", len(e.violations)-shown+e.dropped))
			break
		}
		parts = append(parts, v.GetField()+": "+v.GetDescription())
	}
	return "invalid request: " + strings.Join(parts, "; ")
}

// fields lists the paths for the log.
func (e *invalidError) fields() []string {
	out := make([]string, len(e.violations))
	for i, v := range e.violations {
		out[i] = v.GetField()
	}
	return out
}
