package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func rootCommand(w world) *cobra.Command {
	root := &cobra.Command{
		Use:   "weir",
		Short: "Route each prompt to the cheapest model that is good enough",
		Long: `Weir reads a prompt, scores how hard it is and what it is about with a small ONNX model in process, and sends it to the
cheapest model that is good enough under your limits on cost and quality.

  weir serve                 answer Route over gRPC
  weir route "your prompt"   decide once, here
  weir complete "your prompt"   route, call the model, print its answer (needs weir serve)
  weir score --in FILE       score many prompts

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 what was read or checked has faults.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w; see `%s --help`", err, cmd.CommandPath())
	})
	root.AddCommand(serveCommand(w), routeCommand(w), receiptCommand(w), scoreCommand(w), modelCommand(w), checkCommand(w), benchCommand(w), evalCommand(w), calibrateCommand(w), planCommand(w), catalogCommand(w), completeCommand(w), chatCommand(w), usageCommand(w), versionCommand(w))
	usageArgs(root)
	return root
}

// usageArgs makes every wrong count of arguments a usage error.
func usageArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError("%w; see `%s --help`", err, cmd.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		usageArgs(sub)
	}
}

func versionCommand(w world) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(w.stdout, "weir %s (%s)\n", version, buildInfo())
			return err
		},
	}
}
