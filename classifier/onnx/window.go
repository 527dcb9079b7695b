package onnx

import (
	"fmt"
	"slices"

	"github.com/weirhq/weir/classifier"
)

// encoded is a text as the graph is given it.
type encoded struct {
	ids []int64
	// inputTokens counts the text's tokens, truncated those that are not in ids;
	// exact unless estimated.
	inputTokens, truncated int
	estimated              bool
}

// encoder is a lane's way from clean text to ids. It bounds the tokenizer's work by
// the window's bytes, because a tokenizer's own truncation comes after its work.
type encoder struct {
	tokenizer tokenizer
	window    Window
	special   SpecialTokens
}

// encode returns classifier.ErrNoContent for a text of which no id is left.
func (e encoder) encode(text string) (encoded, error) {
	head, tail, cut := classifier.CutWindow(text, e.window.HeadBytes, e.window.TailBytes)
	first, err := e.piece(head)
	if err != nil {
		return encoded{}, err
	}
	last, err := e.piece(tail)
	if err != nil {
		return encoded{}, err
	}
	count := len(first) + len(last)
	out := encoded{inputTokens: count, estimated: cut}
	switch {
	case cut:
		seen := len(head) + len(tail)
		if seen > 0 {
			out.inputTokens += (count*(len(text)-seen) + seen - 1) / seen
		}
		first, last = e.window.head(first), e.window.tail(last)
	case count > e.window.HeadTokens+e.window.TailTokens:
		first, last = e.window.head(first), e.window.tail(first)
	}
	kept := len(first) + len(last)
	if kept == 0 {
		return encoded{}, classifier.ErrNoContent
	}
	out.truncated = out.inputTokens - kept
	out.ids = make([]int64, 0, len(e.special.Prefix)+kept+len(e.special.Suffix))
	out.ids = append(out.ids, e.special.Prefix...)
	for _, ids := range [][]uint32{first, last} {
		for _, id := range ids {
			out.ids = append(out.ids, int64(id))
		}
	}
	out.ids = append(out.ids, e.special.Suffix...)
	return out, nil
}

// piece encodes one piece and takes the special tokens off.
func (e encoder) piece(text string) ([]uint32, error) {
	if text == "" {
		return nil, nil
	}
	ids := e.tokenizer.encode(text)
	start, end := len(e.special.Prefix), len(ids)-len(e.special.Suffix)
	if len(ids) == 0 && len(e.special.Prefix)+len(e.special.Suffix) > 0 {
		// A tokenizer's error looks the same as an empty text.
		return nil, fmt.Errorf("the tokenizer gave no id at all for %d bytes of text: it is broken", len(text))
	}
	if end < start || !equal(ids[:start], e.special.Prefix) || !equal(ids[end:], e.special.Suffix) {
		return nil, fmt.Errorf("the tokenizer's ids do not begin with special_tokens.prefix %v and end with suffix %v: "+
			"set them to what the tokenizer adds", e.special.Prefix, e.special.Suffix)
	}
	return ids[start:end], nil
}

func (w Window) head(ids []uint32) []uint32 { return ids[:min(w.HeadTokens, len(ids))] }

func (w Window) tail(ids []uint32) []uint32 { return ids[len(ids)-min(w.TailTokens, len(ids)):] }

func equal(ids []uint32, want []int64) bool {
	return slices.EqualFunc(ids, want, func(a uint32, b int64) bool { return int64(a) == b })
}
