package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/classifier/onnx"
)

func modelCommand(w world) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "Look at, prove, seal and swap model bundles",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(modelInspectCommand(w), modelVerifyCommand(w), modelSealCommand(w), modelDiffCommand(w), modelStageCommand(w),
		modelPromoteCommand(w), modelRollbackCommand(w), modelStatusCommand(w), modelListCommand(w), modelProbeCommand(w))
	return cmd
}

func modelInspectCommand(w world) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect DIR",
		Short: "Print what a bundle says of itself, after checking its files",
		Long: `Inspect reads a bundle's manifest strictly and checks every file's size and digest. It runs no graph and needs no native
library; verify does.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := onnx.ReadManifest(args[0])
			if err != nil {
				return faultsError(err)
			}
			if asJSON {
				enc := json.NewEncoder(w.stdout)
				enc.SetIndent("", "  ")
				return enc.Encode(struct {
					Digest string `json:"digest"`
					onnx.Manifest
				}{m.Digest, m})
			}
			return printManifest(w.stdout, &m)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the manifest as JSON, with the digest")
	return cmd
}

func printManifest(out io.Writer, m *onnx.Manifest) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	row("name", "%s %s", m.Name, m.Version)
	row("digest", "%s", m.Digest)
	row("description", "%s", m.Description)
	row("license", "%s", m.License)
	row("references", "efficient %s, high performance %s", m.References.Efficient, m.References.HighPerformance)
	row("domains", "%s", strings.Join(m.Domains, ", "))
	for _, l := range []struct {
		name string
		lane *onnx.Lane
	}{{"fast", m.Lanes.Fast}, {"base", m.Lanes.Base}} {
		if l.lane != nil {
			row("lane "+l.name, "%s, reads %d + %d tokens of %d + %d bytes", l.lane.Graph,
				l.lane.Window.HeadTokens, l.lane.Window.TailTokens, l.lane.Window.HeadBytes, l.lane.Window.TailBytes)
		}
	}
	if m.Cascade != nil {
		doubt := ""
		if below := m.Cascade.DomainBelow; below > 0 {
			doubt = fmt.Sprintf(", or its likeliest domain is below %g", below)
		}
		row("cascade", "base answers where the fast gain is %g to %g%s", m.Cascade.Low, m.Cascade.High, doubt)
	}
	names := make([]string, 0, len(m.Files))
	for name := range m.Files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		row("file "+name, "%d bytes, sha256 %s", m.Files[name].Bytes, m.Files[name].SHA256)
	}
	return t.Flush()
}

func modelVerifyCommand(w world) *cobra.Command {
	var library string
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Open a bundle as serve would: digests, graph, tokenizer, golden probes",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := classifierFlags{kind: "onnx", bundle: args[0], library: library}
			o, err := f.open(cmd.Context(), w)
			if err != nil {
				return faultsError(err)
			}
			info := o.classifier.Info()
			if err := o.close(); err != nil {
				return err
			}
			_, err = fmt.Fprintf(w.stdout, "%s %s is proven: %s\n", info.Name, info.Version, info.Digest)
			return err
		},
	}
	cmd.Flags().StringVar(&library, "onnxruntime", "", "ONNX Runtime library (default: $WEIR_ONNXRUNTIME, else beside the binary, else third_party/lib)")
	return cmd
}
