package onnx

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// small is a tokenizer.json of a few words.
func small(t *testing.T, change func(object)) []byte {
	t.Helper()
	doc := object{
		"added_tokens": []any{object{"id": 2, "content": "[CLS]", "special": true}},
		"normalizer": object{
			"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil, "lowercase": true,
		},
		"pre_tokenizer":  object{"type": "BertPreTokenizer"},
		"post_processor": object{"type": "BertProcessing", "cls": []any{"[CLS]", 2}, "sep": []any{"[SEP]", 3}},
		"model": object{
			"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 8,
			"vocab": object{"[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "un": 10, "##afford": 11, "##aff": 12, "##able": 13, "!": 14, "#": 15, "u": 16, "afford": 17, "[": 18, "\u2019": 19},
		},
	}
	change(doc)
	data, err := json.Marshal(doc)
	require.NoError(t, err)
	return data
}

// deaf stands where the native tokenizer must not be asked.
type deaf struct{ asked *int }

func (d deaf) encode(string) []uint32 {
	*d.asked++
	return []uint32{99}
}

func (deaf) close() error { return nil }

func parsed(t *testing.T, change func(object)) (*wordPiece, bool) {
	t.Helper()
	var f tokenizerFile
	require.NoError(t, json.Unmarshal(small(t, change), &f))
	return newWordPiece(&f)
}

func TestWordPiece(t *testing.T) {
	w, ok := parsed(t, func(object) {})
	require.True(t, ok)
	asked := 0
	w.slow = deaf{&asked}
	for text, want := range map[string][]uint32{
		"":                   {2, 3},
		" \x01\x7f\t":        {2, 3},
		"un":                 {2, 10, 3},
		"UN!un":              {2, 10, 14, 10, 3},
		"unafford":           {2, 10, 11, 3},
		"unaff":              {2, 10, 12, 3},
		"un\x0baff":          {2, 10, 12, 3},    // a vertical tab joins
		"un\raff":            {2, 10, 1, 3},     // a return parts; aff begins no word
		"unaffordx":          {2, 1, 3},         // nine letters
		"unaffx un":          {2, 1, 10, 3},     // no entry for x: one unknown for all
		"##able":             {2, 15, 15, 1, 3}, // marks are words of their own
		"[CLS]":              {2, 18, 1, 1, 3},
		"unableun":           {2, 1, 3},
		"unaffable":          {2, 1, 3},
		"un\u2019un\u00a0un": {2, 10, 19, 10, 10, 3},
		"\u201cun\u2014":     {2, 1, 10, 1, 3},
		"unable  afford":     {2, 10, 13, 17, 3},
	} {
		assert.Equal(t, want, w.encode(text), "text %q", text)
	}
	assert.Zero(t, asked)
	assert.Equal(t, []uint32{99}, w.encode("un\u00e9"))
	assert.Equal(t, 1, asked)
}

// TestWordPieceStandsBack leaves every tokenizer alone that it does not know.
func TestWordPieceStandsBack(t *testing.T) {
	for name, change := range map[string]func(object){
		"another model":       func(d object) { at(d, "model")["type"] = "BPE" },
		"another normalizer":  func(d object) { at(d, "normalizer")["type"] = "Sequence" },
		"no normalizer":       func(d object) { d["normalizer"] = nil },
		"no cleaning":         func(d object) { at(d, "normalizer")["clean_text"] = false },
		"another split":       func(d object) { at(d, "pre_tokenizer")["type"] = "Whitespace" },
		"an added word":       func(d object) { d["added_tokens"] = []any{object{"id": 5, "content": "weir", "special": false}} },
		"no unknown token":    func(d object) { at(d, "model")["unk_token"] = "<unk>" },
		"no mark":             func(d object) { at(d, "model")["continuing_subword_prefix"] = "" },
		"words of two":        func(d object) { at(d, "model")["max_input_chars_per_word"] = 2 },
		"words of any length": func(d object) { at(d, "model")["max_input_chars_per_word"] = 1000 },
		"another template":    func(d object) { at(d, "post_processor")["type"] = "RobertaProcessing" },
		"a template for pairs": func(d object) {
			d["post_processor"] = object{"type": "TemplateProcessing", "single": []any{object{"Sequence": object{"id": "B"}}}}
		},
		"a template of no ids": func(d object) {
			d["post_processor"] = object{"type": "TemplateProcessing", "single": []any{object{"SpecialToken": object{"id": "[CLS]"}}, object{"Sequence": object{"id": "A"}}}}
		},
	} {
		_, ok := parsed(t, change)
		assert.False(t, ok, name)
	}
	asked := 0
	slow := deaf{&asked}
	assert.Equal(t, tokenizer(slow), withWordPiece(slow, small(t, func(object) {}), nil), "the two do not agree")
	assert.Equal(t, tokenizer(slow), withWordPiece(slow, []byte("{"), nil))
}

func TestWordPieceTemplate(t *testing.T) {
	w, ok := parsed(t, func(d object) {
		part := func(kind, id string) object { return object{kind: object{"id": id, "type_id": 0}} }
		d["post_processor"] = object{
			"type": "TemplateProcessing", "single": []any{part("SpecialToken", "[CLS]"), part("Sequence", "A"), part("SpecialToken", "[SEP]")},
			"special_tokens": object{"[CLS]": object{"ids": []any{2}}, "[SEP]": object{"ids": []any{3, 4}}},
		}
	})
	require.True(t, ok)
	assert.Equal(t, []uint32{2, 10, 3, 4}, w.encode("un"))
	w, ok = parsed(t, func(d object) { d["post_processor"] = nil; at(d, "normalizer")["lowercase"] = false })
	require.True(t, ok)
	assert.Equal(t, []uint32{10, 1}, w.encode("un UN"))
}
