// Package sets holds the benchmark sets of this repository inside the program, for
// replays that must not depend on a file being there.
package sets

import (
	_ "embed"
	"iter"
	"strings"

	"github.com/weirhq/weir/eval"
)

//go:embed weir-local.jsonl
var weirLocal string //nolint:gochecknoglobals // embedding needs a variable; nothing changes it

// WeirLocal is weir-local with its pair; see README.md.
func WeirLocal() eval.Source {
	return eval.Source{
		Name: "weir-local", Weak: "smollm2-135m-fewshot", Strong: "quartet",
		Cases: iter.Seq2[eval.Case, error](func(yield func(eval.Case, error) bool) {
			eval.Read(strings.NewReader(weirLocal), "weir-local.jsonl")(yield)
		}),
	}
}
