package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weirhq/weir/internal/ledger"
	"github.com/weirhq/weir/internal/server"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

type usageFlags struct {
	addr, ledger, config, since, until, fee string
	groupBy, baselines                      []string
	csv, asJSON, chart                      bool
}

func usageCommand(w world) *cobra.Command {
	f := &usageFlags{}
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "Show what was spent and saved",
		Long: `Usage sums what completions cost, and what they saved against a baseline, net of retries, failed attempts and routing.

It reads the ledger's file, beside a running server too, or asks a server by --addr (with $WEIR_TOKEN as bearer token where one is set).

  weir usage                                     the last 30 days, by model
  weir usage --group-by day,tier --since 7d
  weir usage --chart                             a bar a day
  weir usage --baseline openai/gpt-6.1-sol --csv > usage.csv
  weir usage --gateway-fee 5.5%                  or $0.001 (a call), or $10/M (tokens)`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), w, time.Now()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.addr, "addr", "", "ask the server at this address, HOST:PORT or unix:PATH, instead of reading the file")
	flags.StringVar(&f.ledger, "ledger", "", "ledger file (default: $WEIR_LEDGER, else weir/ledger.db in $XDG_STATE_HOME or ~/.local/state)")
	flags.StringVar(&f.config, "config", "", "routing config with the catalog and the gateway fee (default: $WEIR_CONFIG, else the embedded one)")
	flags.StringVar(&f.since, "since", "30d", "from then: a day such as 2026-11-01, an RFC 3339 time, 12h or 7d ago, or all")
	flags.StringVar(&f.until, "until", "", "to then, excluded; the same forms (default: now)")
	flags.StringSliceVar(&f.groupBy, "group-by", []string{"model"}, "some of "+strings.Join(server.UsageGroups(), ", "))
	flags.StringSliceVar(&f.baselines, "baseline", nil, "compare with these models too, at today's prices")
	flags.StringVar(&f.fee, "gateway-fee", "", "what a hosted gateway would take: 5.5%, $0.001 a call, or $10/M tokens (default: the config's)")
	flags.BoolVar(&f.csv, "csv", false, "print CSV with exact amounts")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON, as the wire has it")
	flags.BoolVar(&f.chart, "chart", false, "print a bar a day")
	cmd.MarkFlagsMutuallyExclusive("csv", "json", "chart")
	cmd.MarkFlagsMutuallyExclusive("addr", "ledger")
	cmd.MarkFlagsMutuallyExclusive("addr", "config")
	return cmd
}

// parseFee reads a fee's three forms.
func parseFee(s string) (fee router.GatewayFee, err error) {
	switch {
	case strings.HasSuffix(s, "%"):
		fee.Share, err = router.ParseShare(s)
	case strings.HasSuffix(s, "/M"):
		fee.PerMillion, err = router.ParseUSD(strings.TrimSuffix(s, "/M"))
	default:
		fee.PerCall, err = router.ParseUSD(s)
	}
	return fee, err
}

// parseWhen reads a point in time. A number of days ago begins at midnight UTC,
// so that days are whole.
func parseWhen(s string, now time.Time) (time.Time, error) {
	if s == "" || s == "all" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n < 100_000 {
			return now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time: write 2026-11-01, 2026-11-01T12:00:00Z, 12h, 7d or all", s)
}

func (f *usageFlags) request(now time.Time) (*weirv1.UsageRequest, error) {
	req := &weirv1.UsageRequest{GroupBy: f.groupBy, Baselines: f.baselines}
	if f.chart {
		req.GroupBy = []string{"day"}
	}
	from, err := parseWhen(f.since, now)
	if err != nil {
		return nil, usageError("--since %w", err)
	}
	to, err := parseWhen(f.until, now)
	if err != nil {
		return nil, usageError("--until %w", err)
	}
	if !from.IsZero() {
		req.StartTime = timestamppb.New(from)
	}
	if !to.IsZero() {
		req.EndTime = timestamppb.New(to)
	}
	return req, nil
}

func (f *usageFlags) run(ctx context.Context, w world, now time.Time) error {
	req, err := f.request(now)
	if err != nil {
		return err
	}
	var fee router.GatewayFee
	if f.fee != "" {
		if fee, err = parseFee(f.fee); err != nil {
			return usageError("--gateway-fee: %w", err)
		}
	}
	var resp *weirv1.UsageResponse
	if f.addr != "" {
		resp, err = f.ask(ctx, w, req)
	} else {
		resp, err = f.read(ctx, w, req)
	}
	if err != nil {
		return err
	}
	if f.fee != "" {
		if err := charge(resp, fee); err != nil {
			return err
		}
	}
	switch {
	case f.asJSON:
		raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true, Multiline: true}.Marshal(resp)
		if err == nil {
			_, err = fmt.Fprintln(w.stdout, string(raw))
		}
		return err
	case f.csv:
		return usageCSV(w.stdout, req.GetGroupBy(), resp)
	case f.chart:
		return usageChart(w.stdout, resp)
	default:
		return usageTable(w.stdout, req.GetGroupBy(), resp)
	}
}

// charge puts the fee of the flag in place of the config's.
func charge(resp *weirv1.UsageResponse, fee router.GatewayFee) error {
	for _, r := range slices.Concat(resp.GetRows(), []*weirv1.UsageRow{resp.GetTotal()}) {
		n, err := fee.Of(router.NanoUSD(r.GetCostNanoUsd()), r.GetCalls(), r.GetUsage().GetInputTokens()+r.GetUsage().GetOutputTokens())
		if err != nil {
			return err
		}
		nano := int64(n)
		r.GatewayFeeNanoUsd = &nano
	}
	return nil
}

// ask asks a running server.
func (f *usageFlags) ask(ctx context.Context, w world, req *weirv1.UsageRequest) (resp *weirv1.UsageResponse, err error) {
	conn, err := grpc.NewClient(f.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, usageError("--addr %q: %w", f.addr, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if token := w.getenv("WEIR_TOKEN"); token != "" {
		// Without TLS a token is for this machine only.
		if !loopback(f.addr) && !strings.HasPrefix(f.addr, "unix:") {
			return nil, usageError("--addr %q is another machine, and this connection has no TLS: WEIR_TOKEN is not sent there; run weir usage on the server, or tunnel", f.addr)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	resp, err = weirv1.NewRouterServiceClient(conn).Usage(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %s", f.addr, status.Convert(err).Message())
	}
	return resp, nil
}

// read reads the ledger's file, beside its writer if there is one.
func (f *usageFlags) read(ctx context.Context, w world, req *weirv1.UsageRequest) (resp *weirv1.UsageResponse, err error) {
	path, err := ledgerPath(f.ledger, w.getenv)
	if err != nil {
		return nil, err
	}
	if f.config == "" {
		f.config = w.getenv("WEIR_CONFIG")
	}
	rules, err := router.LoadConfig(f.config, w.getenv)
	if err != nil {
		return nil, err
	}
	r, err := ledger.OpenReader(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no ledger at %s: nothing was completed here yet, or name the file by --ledger, or a server by --addr", path)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	resp, err = server.UsageOf(ctx, r, rules, req)
	if server.Invalid(err) {
		return nil, usageError("%w", err)
	}
	return resp, err
}
