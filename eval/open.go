package eval

import (
	"fmt"
	"iter"
	"path/filepath"
	"strings"
)

// Open opens the sets that KIND:PATH names:
//
//	weir:FILE        the record format, plain or .zst; weir:FILE#SET for the cases of one set in it
//	routellm:DIR     see RouteLLM
//	routerbench:PATH see RouterBench
//	mmlu-pro:DIR     see MMLUPro
//	zeroeval:DIR     see ZeroEval
//	journal:FILE     see Journal
//	labels:DIR       see Labels
func Open(spec string) ([]Source, error) {
	kind, path, ok := strings.Cut(spec, ":")
	if !ok || path == "" {
		return nil, fmt.Errorf("set %q is not KIND:PATH: write weir:FILE, routellm:DIR, routerbench:PATH, mmlu-pro:DIR, zeroeval:DIR, journal:FILE or labels:DIR", spec)
	}
	switch kind {
	case "weir":
		if file, set, ok := strings.Cut(path, "#"); ok {
			return []Source{{Name: set, Cases: ofSet(ReadFile(file), set)}}, nil
		}
		return []Source{{Name: stem(path), Cases: ReadFile(path)}}, nil
	case "routellm":
		return RouteLLM(path)
	case "routerbench":
		return RouterBench(path)
	case "mmlu-pro":
		return MMLUPro(path)
	case "zeroeval":
		return ZeroEval(path)
	case "journal":
		return []Source{{Name: stem(path), Cases: Journal(path)}}, nil
	case "labels":
		return Labels(path)
	default:
		return nil, fmt.Errorf("set %q is of unknown kind %q: use weir, routellm, routerbench, mmlu-pro, zeroeval, journal or labels", spec, kind)
	}
}

// ofSet passes on the cases of one set.
func ofSet(cases iter.Seq2[Case, error], set string) iter.Seq2[Case, error] {
	return func(yield func(Case, error) bool) {
		for c, err := range cases {
			if (err != nil || c.Set == set) && !yield(c, err) {
				return
			}
		}
	}
}

// stem is a file's name without folder and known endings.
func stem(path string) string {
	name := filepath.Base(path)
	for _, end := range []string{".zst", ".jsonl", ".csv", ".json"} {
		name = strings.TrimSuffix(name, end)
	}
	return name
}
