package onnx

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
)

// wordPiece encodes plain text as BERT's tokenizer does, in a thirtieth of the time of
// the native one, which takes everything else. Three quarters of the fast lane's time
// would else be tokenizing. Plain text is ASCII with the quotes, dashes and the like of
// U+2010..U+2027 and the no-break space: what English prose and code are written in.
//
// It stands in only where it can be shown to agree: the tokenizer.json must be a
// BertNormalizer, a BertPreTokenizer and a WordPiece model with settings that are
// known here, and no added tokens but special ones, which count as text. On plain text
// those three come down to the table of asciiClasses and a search for the longest
// entry of the vocabulary: no accents, no Chinese characters, no case but A to Z, and
// all of U+2010..U+2027 is punctuation that normalises to itself. Tests hold it
// against the native tokenizer, and opening a bundle does so again.
type wordPiece struct {
	slow           tokenizer
	class          [128]asciiClass
	prefix, suffix []uint32
	// first are the vocabulary's entries that begin a word, later those that go on
	// with one, without their mark. longest is the length of the longest.
	first, later map[string]uint32
	longest      int
	unknown      uint32
	lower        bool
	maxWord      int
}

// asciiClass is what becomes of an ASCII character.
type asciiClass uint8

const (
	asciiWord  asciiClass = iota // it is part of a word
	asciiMark                    // it is a word of its own
	asciiSpace                   // it ends a word
	asciiGone                    // it is taken out, and joins what stands around it
)

// asciiClasses is BertNormalizer with clean_text, then BertPreTokenizer. Vertical tab
// and form feed count as control characters there, not as space.
func asciiClasses() (class [128]asciiClass) {
	for c := range class {
		switch b := byte(c); {
		case b == ' ' || b == '\t' || b == '\n' || b == '\r':
			class[c] = asciiSpace
		case b < ' ' || b == 0x7F:
			class[c] = asciiGone
		case strings.IndexByte("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", b) >= 0:
			class[c] = asciiMark
		}
	}
	return class
}

// mostWord bounds max_input_chars_per_word, so that a word fits an array.
const mostWord = 256

// tokenizerFile is that part of a tokenizer.json that decides ids.
type tokenizerFile struct {
	AddedTokens []struct {
		Special bool `json:"special"`
	} `json:"added_tokens"`
	Normalizer struct {
		Type      string `json:"type"`
		CleanText bool   `json:"clean_text"`
		Lowercase bool   `json:"lowercase"`
	} `json:"normalizer"`
	PreTokenizer struct {
		Type string `json:"type"`
	} `json:"pre_tokenizer"`
	PostProcessor *postProcessor `json:"post_processor"`
	Model         struct {
		Type       string            `json:"type"`
		UnkToken   string            `json:"unk_token"`
		Continuing string            `json:"continuing_subword_prefix"`
		MaxChars   int               `json:"max_input_chars_per_word"`
		Vocab      map[string]uint32 `json:"vocab"`
	} `json:"model"`
}

// postProcessor is BertProcessing, or TemplateProcessing for a single text.
type postProcessor struct {
	Type   string `json:"type"`
	Sep    []any  `json:"sep"`
	Cls    []any  `json:"cls"`
	Single []struct {
		SpecialToken *struct {
			ID string `json:"id"`
		}
		Sequence *struct {
			ID string `json:"id"`
		}
	} `json:"single"`
	SpecialTokens map[string]struct {
		IDs []uint32 `json:"ids"`
	} `json:"special_tokens"`
}

// withWordPiece returns a tokenizer that encodes plain texts in Go, or slow itself
// where the tokenizer.json is of another kind or the two do not agree on texts.
func withWordPiece(slow tokenizer, data []byte, texts []string) tokenizer {
	var f tokenizerFile
	if err := json.Unmarshal(data, &f); err != nil {
		return slow
	}
	w, ok := newWordPiece(&f)
	if !ok {
		return slow
	}
	w.slow = slow
	var all []byte
	for c := byte(1); c < 128; c++ {
		all = append(all, c, 'a', c, c, ' ')
	}
	for r := rune(firstWide); r <= lastWide; r++ {
		all = append(all, string([]rune{r, 'a', r, 0xA0, r})...)
	}
	for _, text := range append(slices.Clone(texts), string(all)) {
		if ids, ok := w.encodePlain(text); ok && !slices.Equal(ids, slow.encode(text)) {
			return slow
		}
	}
	return w
}

func newWordPiece(f *tokenizerFile) (*wordPiece, bool) {
	m := &f.Model
	unknown, known := m.Vocab[m.UnkToken]
	if f.Normalizer.Type != "BertNormalizer" || !f.Normalizer.CleanText || f.PreTokenizer.Type != "BertPreTokenizer" ||
		m.Type != "WordPiece" || !known || m.Continuing == "" || m.MaxChars < 3 || m.MaxChars > mostWord {
		return nil, false
	}
	for _, t := range f.AddedTokens {
		if !t.Special {
			return nil, false // it would be cut out of the text before anything else
		}
	}
	w := &wordPiece{
		class: asciiClasses(), unknown: unknown, lower: f.Normalizer.Lowercase, maxWord: m.MaxChars,
		first: make(map[string]uint32, len(m.Vocab)), later: map[string]uint32{},
	}
	var ok bool
	if w.prefix, w.suffix, ok = f.PostProcessor.around(); !ok {
		return nil, false
	}
	for entry, id := range m.Vocab {
		// A word of ASCII has no mark in it, so that an entry that begins with the
		// continuing mark never begins a word, unless the mark is of letters.
		w.first[entry] = id
		if rest, ok := strings.CutPrefix(entry, m.Continuing); ok {
			w.later[rest] = id
		}
		w.longest = max(w.longest, len(entry))
	}
	return w, true
}

// around returns the ids that are put around a single text.
func (p *postProcessor) around() (prefix, suffix []uint32, ok bool) {
	if p == nil {
		return nil, nil, true
	}
	switch p.Type {
	case "BertProcessing":
		cls, ok := pairID(p.Cls)
		sep, ok2 := pairID(p.Sep)
		return []uint32{cls}, []uint32{sep}, ok && ok2
	case "TemplateProcessing":
		text := false
		for _, part := range p.Single {
			switch {
			case part.Sequence != nil && part.SpecialToken == nil && !text && part.Sequence.ID == "A":
				text = true
			case part.Sequence == nil && part.SpecialToken != nil:
				ids := p.SpecialTokens[part.SpecialToken.ID].IDs
				if len(ids) == 0 {
					return nil, nil, false
				}
				if text {
					suffix = append(suffix, ids...)
				} else {
					prefix = append(prefix, ids...)
				}
			default:
				return nil, nil, false
			}
		}
		return prefix, suffix, text
	}
	return nil, nil, false
}

// pairID reads ["[CLS]", 101].
func pairID(pair []any) (uint32, bool) {
	if len(pair) != 2 {
		return 0, false
	}
	id, ok := pair[1].(float64)
	return uint32(id), ok && id >= 0 && id <= math.MaxUint32 && id == math.Trunc(id)
}

// The punctuation beyond ASCII that counts as plain, in UTF-8 E2 80 90..E2 80 A7.
const (
	firstWide = 0x2010
	lastWide  = 0x2027
)

// wideClass is the class of the character of more than one byte that text begins with,
// and its size; 0 for one that is not plain.
func wideClass(text string) (int, asciiClass) {
	switch {
	case len(text) >= 3 && text[0] == 0xE2 && text[1] == 0x80 && text[2] >= 0x90 && text[2] <= 0xA7:
		return 3, asciiMark
	case len(text) >= 2 && text[0] == 0xC2 && text[1] == 0xA0:
		return 2, asciiSpace
	}
	return 0, asciiWord
}

func (w *wordPiece) encode(text string) []uint32 {
	if ids, ok := w.encodePlain(text); ok {
		return ids
	}
	return w.slow.encode(text)
}

func (w *wordPiece) close() error { return w.slow.close() }

// encodePlain reports false for text that is not plain.
func (w *wordPiece) encodePlain(text string) ([]uint32, bool) {
	ids := make([]uint32, 0, len(w.prefix)+len(text)/3+len(w.suffix)+1)
	ids = append(ids, w.prefix...)
	var word [mostWord]byte
	n := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c >= 0x80 {
			size, class := wideClass(text[i:])
			if size == 0 {
				return nil, false
			}
			if n > 0 {
				ids = w.append(ids, &word, n)
				n = 0
			}
			if class == asciiMark {
				ids = w.append(ids, &word, copy(word[:], text[i:i+size]))
			}
			i += size - 1
			continue
		}
		class := w.class[c]
		if class == asciiWord {
			if n < len(word) {
				if w.lower && 'A' <= c && c <= 'Z' {
					c += 'a' - 'A'
				}
				word[n] = c
			}
			n++
			continue
		}
		if class == asciiGone {
			continue
		}
		if n > 0 {
			ids = w.append(ids, &word, n)
			n = 0
		}
		if class == asciiMark {
			word[0] = c
			ids = w.append(ids, &word, 1)
		}
	}
	if n > 0 {
		ids = w.append(ids, &word, n)
	}
	return append(ids, w.suffix...), true
}

// append adds the ids of a word of n bytes: the longest entry at each place, or the one
// unknown token when a place has none or the word is too long. A word is of ASCII, or
// one character of three bytes; max_input_chars_per_word, at least 3, cannot part them.
func (w *wordPiece) append(ids []uint32, word *[mostWord]byte, n int) []uint32 {
	if n > w.maxWord {
		return append(ids, w.unknown)
	}
	before := len(ids)
	entries := w.first
	for start := 0; start < n; {
		end := min(n, start+w.longest)
		for ; end > start; end-- {
			if id, ok := entries[string(word[start:end])]; ok {
				ids = append(ids, id)
				break
			}
		}
		if end == start {
			return append(ids[:before], w.unknown)
		}
		start = end
		entries = w.later
	}
	return ids
}
