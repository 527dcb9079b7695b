package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/classifier/onnx"
)

func modelSealCommand(w world) *cobra.Command {
	var library, version string
	cmd := &cobra.Command{
		Use:   "seal DIR",
		Short: "Make a bundle vouch for its files as they are, after one was replaced on purpose",
		Long: `Seal is for whoever has replaced a graph, a tokenizer or the texts of the probes, or has begun a bundle of their own: a manifest without digests
and probes of texts alone. It checks what can be checked without trust (the contract of the graphs, no external data, finite outputs), runs the
probes' texts, proves the result as serve would, and writes probes.json and manifest.json with the new digests. It says what changed and how far
the probes moved. Nothing else ever vouches for a file: a graph that was damaged, not replaced, is told from a good one by you.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSeal(cmd.Context(), w, args[0], library, version)
		},
	}
	cmd.Flags().StringVar(&library, "onnxruntime", "", "ONNX Runtime library (default: $WEIR_ONNXRUNTIME, else beside the binary, else third_party/lib)")
	cmd.Flags().StringVar(&version, "version", "", "the bundle's new version (default: as it was)")
	return cmd
}

func runSeal(ctx context.Context, w world, dir, library, version string) (err error) {
	rt, err := startRuntime(library, w.getenv)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	s, err := rt.Seal(ctx, dir, version)
	if err != nil {
		return faultsError(err)
	}
	if err := proveSealed(ctx, rt, dir, s); err != nil {
		return faultsError(err)
	}
	// Probes first: a reader in between sees a digest that does not match, and waits
	// for the next change.
	for _, f := range []struct {
		name string
		data []byte
	}{{s.ProbesName, s.Probes}, {"manifest.json", s.Manifest}} {
		if err := replaceFile(filepath.Join(dir, f.name), f.data); err != nil {
			return fmt.Errorf("seal: %w", err)
		}
	}
	m, err := onnx.ReadManifest(dir)
	if err != nil {
		return fmt.Errorf("seal: the folder changed meanwhile: %w", err)
	}
	return printSealed(w.stdout, &m, s)
}

// proveSealed opens a copy of the bundle with its new manifest, as serve would.
func proveSealed(ctx context.Context, rt *onnx.Runtime, dir string, s *onnx.Sealed) (err error) {
	temp, err := os.MkdirTemp("", "weir-seal-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	for name := range s.After {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(temp, name), data, 0o600) //nolint:gosec // a plain name: Seal refuses any other
		}
		if err != nil {
			return err
		}
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(temp, s.ProbesName), s.Probes, 0o600),
		os.WriteFile(filepath.Join(temp, "manifest.json"), s.Manifest, 0o600))
	if err != nil {
		return err
	}
	b, err := rt.Open(ctx, temp, onnx.Config{})
	if err != nil {
		return err
	}
	return b.Close()
}

// replaceFile writes aside and renames, with the permissions that the file had.
func replaceFile(name string, data []byte) error {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(name); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".seal-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), name)
}

func printSealed(out io.Writer, m *onnx.Manifest, s *onnx.Sealed) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, name := range slices.Sorted(maps.Keys(s.After)) {
		before, had := s.Before[name]
		switch after := s.After[name]; {
		case !had:
			fmt.Fprintf(t, "%s\tnew\t%d bytes, sha256 %.12s\n", name, after.Bytes, after.SHA256)
		case before != after:
			fmt.Fprintf(t, "%s\tchanged\t%d bytes, sha256 %.12s, was %.12s\n", name, after.Bytes, after.SHA256, before.SHA256)
		default:
			fmt.Fprintf(t, "%s\tas before\t\n", name)
		}
	}
	for _, output := range slices.Sorted(maps.Keys(s.Drift)) {
		fmt.Fprintf(t, "%s\tprobes moved\tby at most %.3g\n", output, s.Drift[output])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%s %s is sealed: %s\n", m.Name, m.Version, m.Digest)
	return err
}
