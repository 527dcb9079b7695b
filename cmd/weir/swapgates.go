package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/weirhq/weir/classifier/onnx"
	"github.com/weirhq/weir/internal/swap"
)

// identify reads a bundle's folder without running it.
func identify(dir string) (swap.Identity, []swap.Gate) {
	m, err := onnx.ReadManifest(dir)
	id := swap.Identity{
		Name: m.Name, Version: m.Version, Digest: m.Digest,
		ReferenceEfficient: m.References.Efficient, ReferenceHigh: m.References.HighPerformance,
	}
	if err == nil {
		return id, nil
	}
	return id, gatesOf(err, dir)
}

// gatesOf sorts the faults of a bundle that was not opened by the gates that they
// belong to. What fits none belongs to the load.
func gatesOf(err error, dir string) []swap.Gate {
	byGate := map[string][]string{}
	walkFaults("", err, func(context, fault string) {
		gate := gateOf(context + fault)
		text := strings.TrimSpace(context + fault)
		text = strings.TrimPrefix(text, "open bundle "+dir+": ")
		text = strings.TrimPrefix(text, "read bundle "+dir+": ")
		if !slices.Contains(byGate[gate], text) {
			byGate[gate] = append(byGate[gate], text)
		}
	})
	var out []swap.Gate
	for _, name := range swap.GateNames() {
		faults := byGate[name]
		if len(faults) == 0 {
			continue
		}
		if name == swap.GateDigests || name == swap.GateProbes {
			faults = append(faults, fmt.Sprintf("if a file was replaced on purpose, `weir model seal %s` proves the new one and writes its digest and probes into the bundle", dir))
		}
		out = append(out, swap.Gate{Name: name, Detail: strings.Join(faults, "\n")})
	}
	return out
}

// walkFaults calls visit for every joined error, with what was wrapped around it.
func walkFaults(context string, err error, visit func(context, fault string)) {
	var joined interface{ Unwrap() []error }
	if ok := errors.As(err, &joined); !ok {
		visit(context, err.Error())
		return
	}
	faults := joined.Unwrap()
	inner := make([]string, len(faults))
	for i, f := range faults {
		inner[i] = f.Error()
	}
	context += strings.TrimSuffix(err.Error(), strings.Join(inner, "\n"))
	for _, f := range faults {
		walkFaults(context, f, visit)
	}
}

// gateOf names the gate that a fault belongs to, by the words of classifier/onnx;
// its tests hold them to every bad bundle that there is.
func gateOf(fault string) string {
	for _, r := range []struct{ gate, words string }{
		{swap.GateExternal, `external data`},
		{swap.GateFolder, `is no regular file|permission denied|is a directory|not a directory`},
		{swap.GateDigests, `has SHA-256|bytes, the manifest says|copy the bundle again`},
		{swap.GateManifest, `manifest\.json`},
		{swap.GateRange, `want finite numbers|warm up`},
		{swap.GateTokenizer, `the tokenizer gives|special_tokens|open tokenizer|tokenizer\.json: |zero ids|gives no ids`},
		{swap.GateProbes, `probes?[ .\[]|is not the graph that the bundle was built with`},
		{swap.GateFolder, `no such file`},
		{swap.GateGraph, `load graph|run graph|output "|input "|lane |ONNX model`},
		{swap.GateProbes, `probes`},
	} {
		if regexp.MustCompile(r.words).MatchString(fault) {
			return r.gate
		}
	}
	return swap.GateLoad
}
