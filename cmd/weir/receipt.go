package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

func receiptCommand(w world) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "receipt",
		Short: "Check what a decision was made of",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(receiptVerifyCommand(w))
	return cmd
}

func receiptVerifyCommand(w world) *cobra.Command {
	config := ""
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Make a receipt's decision anew and say what differs",
		Long: `Verify reads a receipt, as a decision with explain has it or ` + "`weir route --receipt`" + ` writes it, makes its decision anew under a config, bit for
bit, and says what differs. It needs neither the prompt nor the bundle: the scores are in the receipt, and no text is. - reads standard input.
The receipt's digest shows slips, not forgery: it is no signature.

  weir receipt verify decision.json --config weir.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := readReceipt(args[0], w.stdin)
			if err != nil {
				return err
			}
			if config == "" {
				config = w.getenv("WEIR_CONFIG")
			}
			rules, err := router.LoadConfig(config, w.getenv)
			if err != nil {
				return err
			}
			check, err := router.VerifyReceipt(text, rules.Text, rules.Source)
			if err != nil {
				return faultsError(err)
			}
			if len(check.Faults) > 0 {
				return faultsError(fmt.Errorf("decision %s is not what this config decides:\n%s", check.Receipt.DecisionID, strings.Join(check.Faults, "\n")))
			}
			_, err = fmt.Fprintf(w.stdout, "decision %s holds: %s under policy %s, config %s, engine %s\n",
				check.Receipt.DecisionID, check.Receipt.Decision.Model, check.Receipt.Decision.Policy, shortDigest(check.Receipt.Config), check.Receipt.Engine)
			return err
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "routing config that decided (default: $WEIR_CONFIG, else the embedded one)")
	return cmd
}

// maxReceipt is far above any receipt: a hundred globs of each kind are 50 KB.
const maxReceipt = 1 << 20

func readReceipt(name string, stdin io.Reader) ([]byte, error) {
	in := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read receipt: %w", err)
		}
		defer file.Close() //nolint:errcheck // only read
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxReceipt+1))
	if err != nil {
		return nil, fmt.Errorf("read receipt: %w", err)
	}
	if len(text) > maxReceipt {
		return nil, fmt.Errorf("read receipt: it is longer than %d bytes: no receipt is", maxReceipt)
	}
	return text, nil
}

// writeReceipt writes a decision's receipt, and takes off the decision what was
// only asked for its sake.
func writeReceipt(name string, d *weirv1.Decision, explain bool) error {
	if err := os.WriteFile(name, []byte(d.GetReceipt()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write receipt: %w", err)
	}
	if explain {
		return nil
	}
	d.Receipt = ""
	best := 0
	for best < min(len(d.GetCandidates()), router.BestCandidates) {
		c := d.GetCandidates()[best]
		if r := c.GetRejection(); r != weirv1.Rejection_REJECTION_UNSPECIFIED && r != weirv1.Rejection_REJECTION_QUALITY {
			break
		}
		best++
	}
	d.Candidates = d.GetCandidates()[:best]
	return nil
}
