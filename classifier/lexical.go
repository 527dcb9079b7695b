package classifier

import (
	"context"
	"fmt"
	"math"
	"strings"
)

// Lexical is the baseline: a fixed formula over the text's shape and a few word
// lists. It needs no model and no native library, knows little, and says so by
// wide intervals. It is what a learned classifier has to beat, what tests use
// in its place, and what serves with --classifier lexical.
type Lexical struct{}

// Classify implements Classifier. It estimates tokens as a quarter of the bytes.
func (Lexical) Classify(ctx context.Context, text string) (Scores, error) {
	if err := context.Cause(ctx); err != nil {
		return Scores{}, fmt.Errorf("classify: %w", err)
	}
	text, err := Clean(text)
	if err != nil {
		return Scores{}, fmt.Errorf("classify: %w", err)
	}
	shape := Shape(text)
	// Longer prompts are harder (prompt length alone ranks MMLU at .583 APGR and
	// GSM8K at .599, both by RouteLLM's protocol); digits, code and mathematics add.
	hard := 0.45*(float64(shape[0])-5) + 2*float64(shape[8]) + 4*float64(shape[9]) + 1.5*float64(shape[4])
	const width = 1.5 // logits: a formula that was never fitted deserves a wide interval
	efficient, high := 0.9-hard, 1.9-0.6*hard
	s := Scores{
		QEfficient:      Estimate{Sigmoid(efficient), Sigmoid(efficient - width), Sigmoid(efficient + width)},
		QHigh:           Estimate{Sigmoid(high), Sigmoid(high - width), Sigmoid(high + width)},
		Domains:         lexicalDomains(text),
		OutputTokens:    256,
		OutputTokensP90: 1024,
		InputTokens:     (len(text) + 3) / 4,
		TokensEstimated: true,
		Lane:            "lexical",
	}
	return s, nil
}

// Info implements Classifier.
func (Lexical) Info() Info {
	return Info{
		Name: "lexical", Version: "1", Digest: "lexical:1",
		ReferenceEfficient: "unmeasured", ReferenceHigh: "unmeasured",
	}
}

// lexicalBytes bounds how much of a text the word lists are looked up in.
const lexicalBytes = 8 << 10

// lexicalWords lists, in the order of the domains, words that give a domain
// away. General has none: it is what is left.
func lexicalWords() [NumDomains]string {
	return [NumDomains]string{
		"",
		"code function python javascript golang java sql compile debug bug api class variable regex script html css",
		"equation integral derivative prove theorem probability solve algebra geometry sum matrix triangle percent calculate",
		"physics chemistry biology molecule cell energy force reaction experiment species planet voltage atom",
		"patient symptom symptoms diagnosis dose treatment disease pain medication clinical doctor blood surgery",
		"contract law legal court statute liability tenant landlord clause lawsuit plaintiff attorney rights",
		"tax stock invest investment loan mortgage interest revenue profit budget accounting portfolio bond",
		"write poem story essay email letter rewrite blog headline tone paragraph draft summarize",
	}
}

func lexicalDomains(text string) [NumDomains]float64 {
	head, tail, cut := CutWindow(text, lexicalBytes/2, lexicalBytes/2)
	if cut {
		head += " " + tail
	}
	seen := map[string]int{}
	for _, word := range strings.FieldsFunc(strings.ToLower(head), func(r rune) bool { return r < 'a' || r > 'z' }) {
		seen[word]++
	}
	logits := make([]float64, NumDomains)
	logits[General.Index()] = 1
	for i, list := range lexicalWords() {
		for _, word := range strings.Fields(list) {
			logits[i] += math.Min(float64(seen[word]), 3)
		}
	}
	var out [NumDomains]float64
	copy(out[:], Softmax(logits))
	return out
}
