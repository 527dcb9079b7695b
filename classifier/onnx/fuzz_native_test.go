//go:build native && cgo

package onnx

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/weirhq/weir/classifier"
)

// FuzzClassify sends any bytes over the cgo boundary. The answer is valid scores, the
// same twice, or one of the contract's errors; never a crash and never another error.
func FuzzClassify(f *testing.F) {
	for _, seed := range []string{
		"", " ", "hi", "a\x00b", "\x00", "\x00\x00 \x00", "ok \xed\xa0\x80 lone surrogate", "\xc0\x80", "\xf0\x82\x82\xac overlong",
		"cut \xe2\x82", "\xff\xfe", "\ufeffmark", "\U0001F469\u200d\U0001F4BB\u200d\U0001F468", "\u202eright to left\u202c",
		"\u0627\u0644\u0633\u0644\u0627\u0645", "[CLS] [SEP] [PAD] [MASK] [UNK]", "[SEP]", "<|endoftext|> </s>", "##a ##hood",
		"\u0001\u0002\u007f", "e\u0301\u0301\u0301", "\u1e9e\u0130\u0131", "\U0010ffff\ufffe\uffff", "\u4f60\u597d\u3000\u3042\uac00",
		"\r\n\t\v\f", "\u00a0\u2003\u200b", strings.Repeat("a", 1000), strings.Repeat("!", 1000), strings.Repeat("\u0301", 500),
		strings.Repeat("\U0001F642", 300), strings.Repeat("a b ", 300), strings.Repeat("x", 1<<20),
	} {
		f.Add([]byte(seed))
	}
	bundle, err := shared.Open(context.Background(), bundleDir("tiny"), Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := bundle.Close(); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := bundle.Classify(t.Context(), string(data))
		if errors.Is(err, classifier.ErrInvalidText) || errors.Is(err, classifier.ErrNoContent) {
			return
		}
		if err != nil {
			t.Fatalf("an error outside the contract: %v", err)
		}
		if err := s.Validate(); err != nil {
			t.Fatalf("scores that are none: %v", err)
		}
		again, err := bundle.Classify(t.Context(), string(data))
		if err != nil || again != s {
			t.Fatalf("the second time it is %+v, %v; the first time it was %+v", again, err, s)
		}
		if s.InputTokens == 0 {
			t.Fatal("scored without a token")
		}
	})
}

// FuzzGraph reads any bytes as a model, without running it.
func FuzzGraph(f *testing.F) {
	f.Add(readTest(f, bundleDir("tiny"), "fast.onnx"))
	f.Add(meanGraph())
	f.Add(slowGraph())
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = readGraph(data) // what counts is that it returns
	})
}
