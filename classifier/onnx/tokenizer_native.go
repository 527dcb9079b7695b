//go:build native && cgo

package onnx

// #cgo LDFLAGS: -L${SRCDIR}/../../third_party/lib
import "C"

import (
	"fmt"

	"github.com/daulet/tokenizers"
)

// rustTokenizer is a Hugging Face tokenizer. Its text must be valid UTF-8 without NUL:
// the binding makes a C string of it. A failure inside it comes back as no ids.
type rustTokenizer struct {
	t *tokenizers.Tokenizer
}

// openTokenizer makes one of the bytes of a tokenizer.json. Special tokens that stand
// in the text ("[SEP]") are encoded as the text that they are.
func (ortEngine) openTokenizer(json []byte) (tokenizer, error) {
	t, err := tokenizers.FromBytes(json, tokenizers.WithEncodeSpecialTokens())
	if err != nil {
		return nil, fmt.Errorf("open tokenizer: %w", err)
	}
	return rustTokenizer{t: t}, nil
}

func (r rustTokenizer) encode(text string) []uint32 {
	return r.t.EncodeWithOptions(text, true).IDs
}

func (r rustTokenizer) close() error { return r.t.Close() }
