package eval

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirhq/weir/classifier"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spoken is a classifier that reads its qualities off the prompt, so that a
// test (and the Python twin) knows what it will say.
type spoken struct {
	calls  atomic.Int64
	digest string
	fail   error
	after  int64
}

func (s *spoken) Info() classifier.Info {
	d := s.digest
	if d == "" {
		d = "test:spoken"
	}
	return classifier.Info{Name: "spoken", Version: "1", Digest: d}
}

func (s *spoken) Classify(_ context.Context, text string) (classifier.Scores, error) {
	if n := s.calls.Add(1); s.fail != nil && n > s.after {
		return classifier.Scores{}, s.fail
	}
	at := strings.Index(text, "(low ")
	if at < 0 {
		return classifier.Scores{}, classifier.ErrNoContent
	}
	var low, high float64
	if _, err := fmt.Sscanf(strings.NewReplacer(",", "", ")", "", ":", "").Replace(text[at+1:]), "low %g high %g", &low, &high); err != nil {
		return classifier.Scores{}, fmt.Errorf("read the test's prompt: %w", err)
	}
	out := classifier.Scores{
		QEfficient: classifier.Estimate{Value: low, Low: low, High: low}, QHigh: classifier.Estimate{Value: high, Low: high, High: high},
		OutputTokens: 100, OutputTokensP90: 200, InputTokens: 20, Lane: "fast",
	}
	out.Domains[classifier.General.Index()] = 1
	return out, nil
}

func seqOf(cases ...Case) iter.Seq2[Case, error] {
	return func(yield func(Case, error) bool) {
		for _, c := range cases {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// simulated makes a set whose strong model gains as much as the classifier
// says where skill is 1, and independently of it where skill is 0.
func simulated(n int, seed uint64, skill float64) []Case {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([]Case, n)
	for i := range out {
		low := 0.2 + 0.6*rng.Float64()
		high := low + (0.98-low)*rng.Float64()
		trueLow, trueHigh := low, high
		if rng.Float64() >= skill {
			trueLow = 0.2 + 0.6*rng.Float64()
			trueHigh = trueLow + (0.98-trueLow)*rng.Float64()
		}
		c := Case{
			ID: fmt.Sprintf("sim-%d", i), Domain: []string{"math", "coding"}[i%2], Outcomes: map[string]float64{"small": 0, "large": 0},
			Prompt: fmt.Sprintf("(low %.6f, high %.6f): %s", low, high, strings.Repeat("word ", rng.IntN(40))),
		}
		if rng.Float64() < trueLow {
			c.Outcomes["small"] = 1
		}
		if rng.Float64() < trueHigh {
			c.Outcomes["large"] = 1
		}
		out[i] = c
	}
	return out
}

func simulatedSource(n int, seed uint64, skill float64) Source {
	return Source{Name: "simulated", Weak: "small", Strong: "large", Cases: seqOf(simulated(n, seed, skill)...)}
}

func runOne(t *testing.T, cfg Config) (*Result, *Sample) {
	t.Helper()
	report, samples, err := Run(t.Context(), cfg)
	require.NoError(t, err)
	require.Len(t, report.Sets, 1)
	return &report.Sets[0], samples[0]
}

func flagged(r *Result, code string) bool {
	return slices.ContainsFunc(r.Flags, func(f Flag) bool { return f.Code == code })
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}
