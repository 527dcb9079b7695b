package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weirhq/weir/internal/server"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

// adminFlags say how a running server is asked.
type adminFlags struct {
	addr    string
	timeout time.Duration
	asJSON  bool
}

func (f *adminFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.addr, "admin", server.DefaultAdminListen, "operators' address of the running server, HOST:PORT or unix:PATH")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 10*time.Minute, "how long to wait for the answer")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print the answer as JSON")
}

// ask calls the server and prints its answer.
func ask[M proto.Message](ctx context.Context, w world, f *adminFlags, call func(context.Context, weirv1.AdminServiceClient) (M, error), show func(M) error) (err error) {
	conn, err := grpc.NewClient(f.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return usageError("--admin %q: %w", f.addr, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	got, err := call(ctx, weirv1.NewAdminServiceClient(conn))
	if err != nil {
		return spoken(err, f.addr)
	}
	if f.asJSON {
		raw, err := protojson.MarshalOptions{Multiline: true, UseProtoNames: true}.Marshal(got)
		if err == nil {
			_, err = fmt.Fprintln(w.stdout, string(raw))
		}
		return err
	}
	return show(got)
}

// spoken turns a status into an error for a terminal. A candidate that was refused
// has faults; a server that is not there needs a remedy.
func spoken(err error, addr string) error {
	st := status.Convert(err)
	for _, d := range st.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.GetReason() != "BUNDLE_REFUSED" {
			continue
		}
		text := st.Message()
		if page := info.GetMetadata()["report"]; page != "" {
			text += "\nreport: " + page
		}
		return faultsError(errors.New(text))
	}
	if st.Code() == codes.Unavailable && len(st.Details()) == 0 {
		return fmt.Errorf("no server answers on %s: start one, or name its --admin-listen address by --admin (%s)", addr, st.Message())
	}
	return errors.New(st.Message())
}

func modelStageCommand(w world) *cobra.Command {
	f := &adminFlags{}
	var promote bool
	cmd := &cobra.Command{
		Use:   "stage NAME",
		Short: "Ask a running server to hold a bundle against its gates",
		Long: `Stage names a folder under the server's --bundle-root. The server copies it, loads it in a process of its own and holds it against every gate;
what serves is untouched. It exits with 3, and the reasons, when a gate refuses. Promote publishes it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var digest string
			err := ask(cmd.Context(), w, f, func(ctx context.Context, c weirv1.AdminServiceClient) (*weirv1.StageBundleResponse, error) {
				return c.StageBundle(ctx, &weirv1.StageBundleRequest{Name: args[0]})
			}, func(r *weirv1.StageBundleResponse) error {
				digest = r.GetBundle().GetDigest()
				return printStaged(w.stdout, r, promote)
			})
			if err != nil || !promote {
				return err
			}
			return askPromote(cmd.Context(), w, f, digest)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&promote, "promote", false, "publish it when every gate passed")
	return cmd
}

func printStaged(out io.Writer, r *weirv1.StageBundleResponse, promote bool) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, g := range r.GetGates() {
		fmt.Fprintf(t, "%s\tpassed\t%s\n", g.GetName(), g.GetDetail())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	b := r.GetBundle()
	fmt.Fprintf(out, "staged %s %s %s\nreport: %s\n", b.GetName(), b.GetVersion(), b.GetDigest(), r.GetReport())
	if !promote {
		fmt.Fprintf(out, "publish it by: weir model promote %s\n", b.GetDigest())
	}
	return nil
}

func modelPromoteCommand(w world) *cobra.Command {
	f := &adminFlags{}
	cmd := &cobra.Command{
		Use:   "promote DIGEST",
		Short: "Ask a running server to publish the staged bundle",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askPromote(cmd.Context(), w, f, args[0])
		},
	}
	f.add(cmd)
	return cmd
}

func askPromote(ctx context.Context, w world, f *adminFlags, digest string) error {
	return ask(ctx, w, f, func(ctx context.Context, c weirv1.AdminServiceClient) (*weirv1.PromoteBundleResponse, error) {
		return c.PromoteBundle(ctx, &weirv1.PromoteBundleRequest{Digest: digest})
	}, func(r *weirv1.PromoteBundleResponse) error { return printServes(w.stdout, r.GetBundle()) })
}

func printServes(out io.Writer, b *weirv1.Bundle) error {
	_, err := fmt.Fprintf(out, "%s %s serves: %s\n", b.GetName(), b.GetVersion(), b.GetDigest())
	return err
}

func modelRollbackCommand(w world) *cobra.Command {
	f := &adminFlags{}
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Ask a running server to go back to the bundle that served before",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), w, f, func(ctx context.Context, c weirv1.AdminServiceClient) (*weirv1.RollbackBundleResponse, error) {
				return c.RollbackBundle(ctx, &weirv1.RollbackBundleRequest{})
			}, func(r *weirv1.RollbackBundleResponse) error { return printServes(w.stdout, r.GetBundle()) })
		},
	}
	f.add(cmd)
	return cmd
}

func modelStatusCommand(w world) *cobra.Command {
	f := &adminFlags{}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Ask a running server which bundle serves, and where a swap stands",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), w, f, func(ctx context.Context, c weirv1.AdminServiceClient) (*weirv1.GetBundleResponse, error) {
				return c.GetBundle(ctx, &weirv1.GetBundleRequest{})
			}, func(r *weirv1.GetBundleResponse) error { return printStatus(w.stdout, r) })
		},
	}
	f.add(cmd)
	return cmd
}

func printStatus(out io.Writer, r *weirv1.GetBundleResponse) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(name string, b *weirv1.Bundle, more string) {
		if b != nil {
			fmt.Fprintf(t, "%s\t%s %s\t%s\t%s\n", name, b.GetName(), b.GetVersion(), b.GetDigest(), more)
		}
	}
	since := "since " + clock(r.GetServing().GetServeTime())
	if r.GetState() == weirv1.BundleState_BUNDLE_STATE_SETTLING {
		since += ", watched until " + clock(r.GetSettleTime())
	}
	row("serving", r.GetServing(), since)
	row("staged", r.GetStaged(), "")
	row("previous", r.GetPrevious(), "")
	if x := r.GetRefusal(); x != nil {
		row("refused", x.GetBundle(), clock(x.GetRefuseTime()))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, g := range r.GetRefusal().GetGates() {
		fmt.Fprintf(out, "  %s: %s\n", g.GetName(), g.GetDetail())
	}
	if page := r.GetRefusal().GetReport(); page != "" {
		fmt.Fprintf(out, "  report: %s\n", page)
	}
	return nil
}

func clock(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().UTC().Format("2006-01-02 15:04:05 UTC")
}

func modelListCommand(w world) *cobra.Command {
	f := &adminFlags{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Ask a running server which bundles have served, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), w, f, func(ctx context.Context, c weirv1.AdminServiceClient) (*weirv1.ListBundlesResponse, error) {
				return c.ListBundles(ctx, &weirv1.ListBundlesRequest{})
			}, func(r *weirv1.ListBundlesResponse) error {
				t := tabwriter.NewWriter(w.stdout, 0, 4, 2, ' ', 0)
				for _, b := range r.GetBundles() {
					fmt.Fprintf(t, "%s %s\t%s\t%s\t%s\t%s\t%s\n", b.GetName(), b.GetVersion(), b.GetDigest(), b.GetOrigin(), clock(b.GetServeTime()), clock(b.GetEndTime()), b.GetEndReason())
				}
				return t.Flush()
			})
		},
	}
	f.add(cmd)
	return cmd
}
