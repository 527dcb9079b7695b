package router

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// lineIndex maps the path of every key and element, such as models[2].price, to
// its line. A text that is not YAML has an empty index.
func lineIndex(text []byte) map[string]int {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil || len(root.Content) == 0 {
		return nil
	}
	index := map[string]int{}
	indexNode(root.Content[0], "", index, 0)
	return index
}

// maxDepth is deeper than any config; it ends the walk of a hostile alias.
const maxDepth = 16

func indexNode(n *yaml.Node, path string, index map[string]int, depth int) {
	if depth > maxDepth {
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			at := strings.TrimPrefix(path+"."+key.Value, ".")
			index[at] = key.Line
			indexNode(n.Content[i+1], at, index, depth+1)
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			index[at] = c.Line
			indexNode(c, at, index, depth+1)
		}
	default:
	}
}

// decodeFaults turns the parser's error into faults with lines.
func decodeFaults(source string, err error) []*Fault {
	if err == nil {
		return nil
	}
	var many *yaml.TypeError
	if !errors.As(err, &many) {
		line, text := cutLine(strings.TrimPrefix(err.Error(), "yaml: "))
		if err.Error() == "EOF" {
			text = "is empty: start from the output of `weir check --print-default`"
		}
		return []*Fault{{Source: source, Line: line, Problem: text}}
	}
	unknown := regexp.MustCompile(`^field (\S+) not found in type \S+$`)
	faults := make([]*Fault, 0, len(many.Errors))
	for _, e := range many.Errors {
		line, text := cutLine(e)
		if m := unknown.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("unknown key %q: docs/config.md lists the keys", m[1])
		}
		text = strings.ReplaceAll(text, "cannot unmarshal !!", "wants another kind of value than ")
		faults = append(faults, &Fault{Source: source, Line: line, Problem: text})
	}
	return faults
}

// cutLine takes "line N: " off the front.
func cutLine(s string) (int, string) {
	rest, ok := strings.CutPrefix(s, "line ")
	if !ok {
		return 0, s
	}
	number, text, ok := strings.Cut(rest, ": ")
	n, err := strconv.Atoi(number)
	if !ok || err != nil {
		return 0, s
	}
	return n, text
}

func sortFaults(faults []*Fault) {
	slices.SortStableFunc(faults, func(a, b *Fault) int { return cmp.Compare(a.Line, b.Line) })
}
