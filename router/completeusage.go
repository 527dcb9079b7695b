package router

import (
	"unicode/utf8"
)

// textMeter estimates the tokens of a text that comes in pieces, for what a
// provider did not count. On every sixth prompt of training-data/corpus, summed,
// against OpenAI's o200k_base: 9 % under on English (364 prompts, median error
// .10, nine in ten within .25) and on code (44), 4 % over in other languages (55,
// nine in ten within .77). A smaller vocabulary makes more tokens: SmolLM2's
// counts are 19 % above the estimate on English, and 79 % in other languages.
type textMeter struct{ ascii, wide, symbols int }

func (m *textMeter) add(s string) {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || c == ' ' {
				m.ascii++
			} else {
				m.symbols++
			}
			i++
			continue
		}
		_, n := utf8.DecodeRuneInString(s[i:])
		m.wide++
		i += n
	}
}

// Letters and spaces a token; digits, punctuation and line ends a token; letters
// of other scripts a token.
const (
	lettersPerToken = 5.0
	symbolsPerToken = 1.9
	widePerToken    = 1.6
)

func (m *textMeter) tokens() int64 {
	return ceil(float64(m.ascii)/lettersPerToken + float64(m.symbols)/symbolsPerToken + float64(m.wide)/widePerToken)
}

// estimateInput is what the input is taken to have cost where a provider did
// not say; never more than the decision's own estimate, which bounds it.
func estimateInput(in *Input, c *Candidate) int64 {
	const perMessage = 4 // role markers
	var m textMeter
	extra := int64(3)
	for i := range in.Messages {
		extra += perMessage
		for j := range in.Messages[i].Parts {
			switch p := &in.Messages[i].Parts[j]; {
			case p.Media != nil:
				extra += MediaTokens + bytesToTokens(MediaBytes(p.Media.MIMEType, len(p.Media.Data)))
			case p.Call != nil:
				m.add(p.Call.Name)
				m.add(p.Call.Arguments)
			case p.Result != nil:
				m.add(p.Result.Content)
			default:
				m.add(p.Text)
			}
		}
	}
	for i := range in.Tools {
		m.add(in.Tools[i].Name)
		m.add(in.Tools[i].Description)
		m.add(string(in.Tools[i].Schema))
	}
	return min(m.tokens()+extra, c.InputTokens)
}

// heard is what was heard of one attempt.
type heard struct {
	usage Usage
	// said is whether the provider counted, since how many pieces of content
	// ago it last did.
	said   bool
	since  int
	any    bool // anything at all came
	pieces int  // of content
	meter  textMeter
	finish FinishReason
}

func (h *heard) chunk(c *Chunk) {
	h.any = true
	if c.Content() {
		h.pieces++
		h.since++
		h.meter.add(c.Text)
		h.meter.add(c.Reasoning)
		if c.Tool != nil {
			h.meter.add(c.Tool.Name)
			h.meter.add(c.Tool.Arguments)
		}
	}
	if c.Usage != nil && c.Usage.Validate() == nil {
		h.usage, h.said, h.since = *c.Usage, true, 0
	}
	if c.Finish != 0 {
		h.finish = c.Finish
	}
}

// billed is what an attempt is taken to have used, and whether it was billed at
// all. What the provider said counts, zero included. Where it did not say: an
// attempt that the provider refused, or that never reached it, is not billed;
// one that was cut is billed its input and what came of the answer.
func (h *heard) billed(in *Input, c *Candidate, failure *UpstreamError) (Usage, bool) {
	switch {
	case h.said && (failure == nil || h.since == 0):
		return h.usage, true
	case h.said:
		u := h.usage
		if n := h.meter.tokens(); n > u.Output {
			u.Output, u.Estimated = n, true
		}
		return u, true
	case failure != nil && !h.any && notBilled(failure):
		return Usage{}, false
	default:
		return Usage{Input: estimateInput(in, c), Output: min(h.meter.tokens(), max(c.MaxOutput, 0)), Estimated: true}, true
	}
}

// notBilled tells failures after which no provider bills: it answered with an
// error in place of an answer, or was not reached.
func notBilled(e *UpstreamError) bool {
	switch e.Kind {
	case FailureTimeout, FailureCancelled, FailureProtocol:
		return e.Unsent || e.Status >= 400
	case FailureNetwork:
		return e.Status == 0 || e.Status >= 400 // after another status the answer had begun
	default:
		return true
	}
}
