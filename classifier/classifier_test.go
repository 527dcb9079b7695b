package classifier_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/classifier/classifiertest"
)

func TestLexicalKeepsTheContract(t *testing.T) {
	classifiertest.Run(t, classifier.Lexical{})
}

func TestLexicalRanksAndNames(t *testing.T) {
	score := func(text string) classifier.Scores {
		s, err := classifier.Lexical{}.Classify(t.Context(), text)
		require.NoError(t, err)
		return s
	}
	easy := score("hello there")
	hard := score("Solve the equation x^2 - 5*x + 6 = 0, then prove the general theorem; " + strings.Repeat("consider every case. ", 60))
	assert.Greater(t, hard.Complexity(), easy.Complexity())
	assert.Greater(t, hard.Gain(), easy.Gain())
	for text, want := range map[string]classifier.Domain{
		"what is the dose of this medication for a patient": classifier.Medical,
		"fix this python function please":                   classifier.Coding,
		"can my landlord end the contract":                  classifier.Legal,
		"tell me something nice":                            classifier.General,
	} {
		got, p := score(text).Domain()
		assert.Equal(t, want, got, text)
		assert.Greater(t, p, 1.0/classifier.NumDomains)
	}
}

func TestDomainNamesRoundTrip(t *testing.T) {
	for _, d := range classifier.Domains() {
		got, err := classifier.ParseDomain(d.String())
		require.NoError(t, err)
		assert.Equal(t, d, got)
	}
	_, err := classifier.ParseDomain("code")
	require.ErrorContains(t, err, `"code"`)
	require.ErrorContains(t, err, "coding")
	assert.Equal(t, "domain(9)", classifier.Domain(9).String())
}

func TestRender(t *testing.T) {
	user := func(s string) classifier.Message { return classifier.Message{Role: classifier.User, Text: s} }
	bot := func(s string) classifier.Message { return classifier.Message{Role: classifier.Assistant, Text: s} }
	for name, tc := range map[string]struct {
		in   []classifier.Message
		want string
	}{
		"one ask":              {[]classifier.Message{{Role: classifier.System, Text: "be kind"}, user("hi")}, "hi"},
		"earlier asks come in": {[]classifier.Message{user("write a parser"), bot("done"), user("commit it")}, "write a parser\n\ncommit it"},
		"three at most":        {[]classifier.Message{user("1"), user("2"), user("3"), user("4"), user("5")}, "2\n\n3\n\n4\n\n5"},
		"tool text is left":    {[]classifier.Message{user("look"), {Role: classifier.Tool, Text: "500 lines"}}, "look"},
		"blank asks are left":  {[]classifier.Message{user("look"), user("  \n")}, "look"},
		"nothing to score":     {[]classifier.Message{bot("hello")}, ""},
	} {
		assert.Equal(t, tc.want, classifier.Render(tc.in), name)
	}
}

func TestShape(t *testing.T) {
	got := classifier.Shape("Ab 12\n?{+é")
	ln := func(n float64) float32 { return float32(math.Log1p(n)) }
	want := [classifier.ShapeSize]float32{
		ln(11), ln(3), ln(2), ln(2), 2. / 11, 1. / 11, 3. / 11, 2. / 11, 1. / 11, 1. / 11, ln(1), ln(5),
	}
	assert.Equal(t, want, got)
	assert.Equal(t, [classifier.ShapeSize]float32{2: ln(1)}, classifier.Shape(""))
	assert.Zero(t, testing.AllocsPerRun(10, func() { classifier.Shape("abc def") }))
}

// TestShapeCountsAsDefined holds the one pass of Shape against the words of the
// definition, over texts of every length and kind of white space.
func TestShapeCountsAsDefined(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("ab7?A{+ \t\n\v\f\ré\u00a0"))).Draw(t, "text")
		words := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) })
		longest := 0
		for _, w := range words {
			longest = max(longest, len(w))
		}
		ln := func(n int) float32 { return float32(math.Log1p(float64(n))) }
		got := classifier.Shape(text)
		require.Equal(t, ln(len(words)), got[1])
		require.Equal(t, ln(strings.Count(text, "\n")+1), got[2])
		require.Equal(t, ln(strings.Count(text, "7")), got[3])
		require.Equal(t, ln(strings.Count(text, "?")), got[10])
		require.Equal(t, ln(longest), got[11])
	})
}

func TestCleanAndCut(t *testing.T) {
	got, err := classifier.Clean("a\x00b\x00")
	require.NoError(t, err)
	assert.Equal(t, "a\uFFFDb\uFFFD", got)

	mixed := strings.Repeat("\x00é\x00\x00b", 100)
	got, err = classifier.Clean(mixed)
	require.NoError(t, err)
	assert.Equal(t, strings.ReplaceAll(mixed, "\x00", "\uFFFD"), got)

	got, err = classifier.Clean("\u2003\t\n a  b\x00 \n\n\u3000")
	require.NoError(t, err)
	assert.Equal(t, "a  b\uFFFD", got, "white space around a text makes it no other text")

	head, tail, cut := classifier.CutWindow("abcdef", 3, 3)
	assert.Equal(t, []any{"abcdef", "", false}, []any{head, tail, cut})
	head, tail, cut = classifier.CutWindow("aéééz", 2, 2)
	assert.Equal(t, []any{"a", "z", true}, []any{head, tail, cut})
}

func TestCutWindowKeepsRunesAndBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		h, n := rapid.IntRange(0, 40).Draw(t, "head"), rapid.IntRange(0, 40).Draw(t, "tail")
		head, tail, cut := classifier.CutWindow(text, h, n)
		if !cut {
			require.Equal(t, text, head)
			require.LessOrEqual(t, len(text), h+n)
			return
		}
		require.True(t, strings.HasPrefix(text, head) && strings.HasSuffix(text, tail))
		require.LessOrEqual(t, len(head), h)
		require.Greater(t, len(head), h-4)
		require.LessOrEqual(t, len(tail), n)
		require.Greater(t, len(tail), n-4)
		_, err1 := classifier.Clean("x" + head)
		_, err2 := classifier.Clean("x" + tail)
		require.NoError(t, errors.Join(err1, err2), "a rune was cut")
	})
}

func TestCurve(t *testing.T) {
	c, err := classifier.NewCurve([]classifier.Knot{{X: -1, Y: -2, Low: -3, High: -1}, {X: 1, Y: 0, Low: -0.5, High: 0.5}, {X: 2, Y: 3, Low: 3, High: 3}})
	require.NoError(t, err)
	assert.InDelta(t, classifier.Sigmoid(-2), c.At(-1).Value, 1e-12)
	assert.InDelta(t, classifier.Sigmoid(-1), c.At(0).Value, 1e-12)
	assert.InDelta(t, classifier.Sigmoid(-1-0.75), c.At(0).Low, 1e-12)
	assert.InDelta(t, classifier.Sigmoid(6), c.At(3).Value, 1e-12, "goes on with the last slope")
	assert.InDelta(t, classifier.Sigmoid(-4), c.At(-3).Value, 1e-12, "goes on with the first slope")
	assert.InDelta(t, classifier.Sigmoid(-5), c.At(-3).Low, 1e-12, "the interval keeps its width")

	_, err = classifier.NewCurve([]classifier.Knot{{X: 1, Y: 1, Low: 2, High: 1}})
	require.ErrorContains(t, err, "at least 2")
	require.ErrorContains(t, err, "outside lo")
	_, err = classifier.NewCurve([]classifier.Knot{{}, {X: 1}})
	require.ErrorContains(t, err, "above those of knot 0")
	_, err = classifier.NewCurve([]classifier.Knot{{X: math.NaN()}, {X: 1, Y: 1, Low: 1, High: 1}})
	require.ErrorContains(t, err, "finite")
}

func TestCurveIsStrictlyIncreasing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := 0.0, -3.0
		var knots []classifier.Knot
		for range rapid.IntRange(2, 8).Draw(t, "knots") {
			x += rapid.Float64Range(0.01, 2).Draw(t, "dx")
			y += rapid.Float64Range(0.01, 1).Draw(t, "dy")
			knots = append(knots, classifier.Knot{X: x, Y: y, Low: y - 0.1, High: y + 0.2})
		}
		c, err := classifier.NewCurve(knots)
		require.NoError(t, err)
		a := rapid.Float64Range(-2, 12).Draw(t, "a")
		b := a + rapid.Float64Range(0.001, 3).Draw(t, "step")
		low, high := c.At(a), c.At(b)
		if high.Value < 1-1e-12 {
			require.Less(t, low.Value, high.Value)
		}
		require.True(t, low.Low <= low.Value && low.Value <= low.High)
	})
}

func TestScoresValidateNamesEveryFault(t *testing.T) {
	s, err := classifier.Lexical{}.Classify(t.Context(), "hello")
	require.NoError(t, err)
	require.NoError(t, s.Validate())
	for want, spoil := range map[string]func(*classifier.Scores){
		"q_efficient":          func(s *classifier.Scores) { s.QEfficient.Value = math.NaN() },
		"q_high":               func(s *classifier.Scores) { s.QHigh.High = 1.01 },
		"sum to":               func(s *classifier.Scores) { s.Domains[0] += 0.01 },
		"probability":          func(s *classifier.Scores) { s.Domains[0] = -1 },
		"output tokens are":    func(s *classifier.Scores) { s.OutputTokens = 0 },
		"output tokens p90":    func(s *classifier.Scores) { s.OutputTokensP90 = 1 },
		"truncated tokens are": func(s *classifier.Scores) { s.TruncatedTokens = s.InputTokens + 1 },
		"lane":                 func(s *classifier.Scores) { s.Lane = "" },
	} {
		bad := s
		spoil(&bad)
		require.ErrorContains(t, bad.Validate(), want)
	}
}

// fixed answers every prompt with one gain, or an error.
type fixed struct {
	lane string
	gain float64
	err  error
}

func (f fixed) Classify(ctx context.Context, text string) (classifier.Scores, error) {
	s, err := classifier.Lexical{}.Classify(ctx, text)
	if f.err != nil {
		return classifier.Scores{}, fmt.Errorf("fixed: %w", f.err)
	}
	s.QEfficient = classifier.Estimate{Value: 0.5, Low: 0.5, High: 0.5}
	s.QHigh = classifier.Estimate{Value: 0.5 + f.gain, Low: 0, High: 1}
	s.Lane = f.lane
	return s, err
}

func (f fixed) Info() classifier.Info { return classifier.Lexical{}.Info() }

func TestCascade(t *testing.T) {
	band := classifier.Band{Low: 0, High: 0.1}
	for name, tc := range map[string]struct {
		fast, base fixed
		want       string
		err        error
	}{
		"inside the band base answers":   {fixed{"fast", 0.05, nil}, fixed{"base", 0.3, nil}, "base", nil},
		"the ends belong to the band":    {fixed{"fast", 0.1, nil}, fixed{"base", 0.3, nil}, "base", nil},
		"above it fast answers":          {fixed{"fast", 0.2, nil}, fixed{"base", 0.3, errors.New("never asked")}, "fast", nil},
		"below it fast answers":          {fixed{"fast", -0.01, nil}, fixed{"base", 0.3, errors.New("never asked")}, "fast", nil},
		"an overloaded base leaves fast": {fixed{"fast", 0.05, nil}, fixed{"base", 0, classifier.ErrOverloaded}, "fast", nil},
		"a broken base is an error":      {fixed{"fast", 0.05, nil}, fixed{"base", 0, classifier.ErrClosed}, "", classifier.ErrClosed},
		"a broken fast is an error":      {fixed{"fast", 0.05, classifier.ErrClosed}, fixed{"base", 0, nil}, "", classifier.ErrClosed},
	} {
		c, err := classifier.NewCascade(tc.fast, tc.base, band, classifier.Info{})
		require.NoError(t, err)
		s, err := c.Classify(t.Context(), "hello")
		require.ErrorIs(t, err, tc.err, name)
		assert.Equal(t, tc.want, s.Lane, name)
	}
	_, err := classifier.NewCascade(fixed{}, fixed{}, classifier.Band{Low: 1, High: 0}, classifier.Info{})
	require.ErrorContains(t, err, "low must not be above high")
	_, err = classifier.NewCascade(fixed{}, fixed{}, classifier.Band{High: 1, DomainBelow: 1.5}, classifier.Info{})
	require.ErrorContains(t, err, "below a domain's probability of 1.5: give 0 to 1")
	c, err := classifier.NewCascade(classifier.Lexical{}, classifier.Lexical{}, classifier.Band{Low: -1, High: 1}, classifier.Lexical{}.Info())
	require.NoError(t, err)
	classifiertest.Run(t, c)
}

// TestCascadeAsksWhereTheDomainIsInDoubt: outside the band of gain, base is asked where
// fast's likeliest domain is less likely than the bound.
func TestCascadeAsksWhereTheDomainIsInDoubt(t *testing.T) {
	fast := fixed{"fast", 0.2, nil}
	s, err := fast.Classify(t.Context(), "hello")
	require.NoError(t, err)
	_, likely := s.Domain()
	for below, want := range map[float64]string{0: "fast", likely: "fast", likely + 0.01: "base", 1: "base"} {
		c, err := classifier.NewCascade(fast, fixed{"base", 0.3, nil}, classifier.Band{Low: 0, High: 0.1, DomainBelow: below}, classifier.Info{})
		require.NoError(t, err)
		got, err := c.Classify(t.Context(), "hello")
		require.NoError(t, err)
		assert.Equal(t, want, got.Lane, "below %v, fast gives its domain %v", below, likely)
	}
}

// late answers only when its context ends, as a base lane behind a queue does.
type late struct{ fixed }

func (late) Classify(ctx context.Context, _ string) (classifier.Scores, error) {
	<-ctx.Done()
	return classifier.Scores{}, context.Cause(ctx)
}

func TestCascadeOutOfTime(t *testing.T) {
	c, err := classifier.NewCascade(fixed{"fast", 0.05, nil}, late{}, classifier.Band{Low: 0, High: 0.1}, classifier.Info{})
	require.NoError(t, err)
	short, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errors.New("scoring took too long"))
	defer cancel()
	s, err := c.Classify(short, "hello")
	require.NoError(t, err)
	assert.Equal(t, "fast", s.Lane, "what the fast lane said stands when the base lane's time is up")

	gone, leave := context.WithCancel(t.Context())
	leave()
	_, err = c.Classify(gone, "hello")
	require.ErrorIs(t, err, context.Canceled, "a caller that left gets no answer")
}

func ExampleLexical() {
	s, err := classifier.Lexical{}.Classify(context.Background(), "fix this python function")
	if err != nil {
		fmt.Println(err)
		return
	}
	domain, _ := s.Domain()
	fmt.Printf("%s, complexity between 0 and 1: %t\n", domain, s.Complexity() > 0 && s.Complexity() < 1)
	// Output: coding, complexity between 0 and 1: true
}
