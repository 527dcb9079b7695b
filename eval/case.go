package eval

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/weirhq/weir/classifier"
)

// Splits of a case.
const (
	SplitTrain = "train"
	SplitEval  = "eval"
	// SplitOverlap marks rows that repeat a question of a held-out set. They may
	// neither train nor measure, and Run never uses them.
	SplitOverlap = "overlap"
)

// Message is one message of a chat prompt.
type Message struct {
	// Role is system, user, assistant or tool.
	Role string `json:"role"`
	// Content is the message's text.
	Content string `json:"content"`
}

// Case is one prompt of a benchmark set with what several models made of it:
// one JSON object on a line of its own.
type Case struct {
	// ID names the case; unique in its set.
	ID string `json:"id"`
	// Set names the benchmark set.
	Set string `json:"set,omitempty"`
	// Split is train, eval, overlap or "" (as eval).
	Split string `json:"split,omitempty"`
	// Prompt is the text, or Messages the chat. Exactly one of them is given.
	Prompt   string    `json:"prompt,omitempty"`
	Messages []Message `json:"messages,omitempty"`
	// Domain is the set's own label of what the prompt is about.
	Domain string `json:"domain,omitempty"`
	// Outcomes is how good each model's answer was, 0 to 1.
	Outcomes map[string]float64 `json:"outcomes,omitempty"`
	// OutputChars is the length of each model's answer in characters.
	OutputChars map[string]int64 `json:"output_chars,omitempty"`
	// CostUSD is what each model's call cost in dollars.
	CostUSD map[string]float64 `json:"cost_usd,omitempty"`
	// Difficulty is 1 (easy) to 5; 0 when unknown.
	Difficulty int `json:"difficulty,omitempty"`
	// Skills names what an answer needs.
	Skills []string `json:"skills,omitempty"`
	// Src says where in its source the case comes from.
	Src string `json:"src,omitempty"`
	// Note warns of something that a reader of figures should know, such as a
	// fixed few-shot prefix.
	Note string `json:"note,omitempty"`
}

// Text is the one text of the case that is scored: the prompt, or the chat as
// classifier.Render makes it.
func (c *Case) Text() (string, error) {
	if len(c.Messages) == 0 {
		return c.Prompt, nil
	}
	messages := make([]classifier.Message, len(c.Messages))
	for i, m := range c.Messages {
		role := slices.Index([]string{"system", "user", "assistant", "tool"}, m.Role)
		if role < 0 {
			return "", fmt.Errorf("messages[%d].role %q is unknown: use system, user, assistant or tool", i, m.Role)
		}
		messages[i] = classifier.Message{Role: classifier.System + classifier.Role(role), Text: m.Content}
	}
	return classifier.Render(messages), nil
}

// Validate reports everything that is wrong with the case, by field. It never
// quotes the prompt.
func (c *Case) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.ID == "" {
		fault("id is missing or empty: give every case one")
	}
	if (c.Prompt == "") == (len(c.Messages) == 0) {
		fault("give either prompt or messages, not both and not neither")
	}
	if _, err := c.Text(); err != nil {
		errs = append(errs, err)
	}
	if !slices.Contains([]string{"", SplitTrain, SplitEval, SplitOverlap}, c.Split) {
		fault("split %q is unknown: use train, eval or overlap", c.Split)
	}
	if c.Difficulty < 0 || c.Difficulty > 5 {
		fault("difficulty %d is out of range: use 1 to 5, or leave it out", c.Difficulty)
	}
	for _, m := range sortedKeys(c.Outcomes) {
		if v := c.Outcomes[m]; !(v >= 0 && v <= 1) {
			fault("outcomes[%q] is %v: scores are 0 to 1", m, v)
		}
	}
	for _, m := range sortedKeys(c.OutputChars) {
		if v := c.OutputChars[m]; v < 0 {
			fault("output_chars[%q] is %d: lengths are not negative", m, v)
		}
	}
	for _, m := range sortedKeys(c.CostUSD) {
		if v := c.CostUSD[m]; !(v >= 0 && v <= maxCostUSD) {
			fault("cost_usd[%q] is %v: give dollars, 0 to %v", m, v, maxCostUSD)
		}
	}
	return errors.Join(errs...)
}

// maxCostUSD keeps the sum of a million calls inside 63 bits of nano-dollars.
const maxCostUSD = 9000.0

// nanoUSD turns dollars of a data set into integers, rounded to the nearest.
func nanoUSD(usd float64) int64 { return int64(math.RoundToEven(usd * 1e9)) }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
