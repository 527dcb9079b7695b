package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weirhq/weir/router"
)

func checkCommand(w world) *cobra.Command {
	var printDefault bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a routing config and say all that is wrong with it",
		Long: `Check reads a routing config as serve does and prints every fault with its line, key and remedy. It calls nobody and needs no key.

  weir check weir.yaml
  weir check --print-default > weir.yaml    start a config of your own`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if printDefault {
				_, err := w.stdout.Write(router.DefaultConfig())
				return err
			}
			if len(args) != 1 {
				return usageError("check needs the config's file name, or --print-default")
			}
			rules, err := router.LoadConfig(args[0], w.getenv)
			var bad *router.ConfigError
			if errors.As(err, &bad) {
				return faultsError(fmt.Errorf("%d faults\n%w", len(bad.Faults), bad))
			}
			if err != nil {
				return err
			}
			callable := 0
			for _, m := range rules.Catalog.Models() {
				if m.Callable() {
					callable++
				}
			}
			_, err = fmt.Fprintf(w.stdout, "%s is sound: %d models (%d callable with the keys in this environment), %d policies, default %s\n%s\n",
				args[0], len(rules.Catalog.Models()), callable, len(rules.Policies), rules.DefaultPolicy, rules.Digest)
			return err
		},
	}
	cmd.Flags().BoolVar(&printDefault, "print-default", false, "print the embedded default config")
	return cmd
}
