package server

import (
	"context"
	"fmt"
	"slices"
	"strings"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// UsageSource sums what was spent. A router.Ledger is one. It is safe for
// concurrent use.
type UsageSource interface {
	// Usage is router.Ledger.Usage.
	Usage(ctx context.Context, q *router.UsageQuery) ([]router.UsageRow, error)
}

// maxBaselines bounds the comparisons of one request.
const maxBaselines = 10

// Usage implements RouterService.
func (s *routerService) Usage(ctx context.Context, req *weirv1.UsageRequest) (*weirv1.UsageResponse, error) {
	if s.usage == nil {
		return nil, &unavailableError{what: "this server keeps no ledger: it does not call models, so nothing was spent through it"}
	}
	snap := s.store.Acquire()
	defer snap.Release()
	return UsageOf(ctx, s.usage, snap.Rules, req)
}

// UsageOf answers a Usage request from a source under a config's catalog and
// gateway fee, for the server and for a command that reads a ledger's file. Its
// errors are plain, as NewRouterService's are.
func UsageOf(ctx context.Context, source UsageSource, rules *router.Rules, req *weirv1.UsageRequest) (*weirv1.UsageResponse, error) {
	if err := checkUsage(req, rules.Catalog); err != nil {
		return nil, err
	}
	q := &router.UsageQuery{GroupBy: req.GetGroupBy()}
	if t := req.GetStartTime(); t != nil {
		q.From = t.AsTime()
	}
	if t := req.GetEndTime(); t != nil {
		q.To = t.AsTime()
	}
	out := &weirv1.UsageResponse{}
	c := comparison{source: source, rules: rules, models: req.GetBaselines()}
	if len(q.GroupBy) > 0 {
		rows, err := c.rows(ctx, q)
		if err != nil {
			return nil, err
		}
		out.Rows = rows
	}
	q.GroupBy = nil
	total, err := c.rows(ctx, q)
	if err != nil {
		return nil, err
	}
	out.Total = &weirv1.UsageRow{Usage: &weirv1.TokenUsage{}}
	if len(total) > 0 {
		out.Total = total[0]
	}
	return out, nil
}

// comparison turns a query into rows, compared with models.
type comparison struct {
	source UsageSource
	rules  *router.Rules
	models []string
}

func (c *comparison) rows(ctx context.Context, q *router.UsageQuery) ([]*weirv1.UsageRow, error) {
	rows, err := c.source.Usage(ctx, q)
	if err != nil {
		return nil, err
	}
	against, err := c.baselines(ctx, q)
	if err != nil {
		return nil, err
	}
	out := make([]*weirv1.UsageRow, len(rows))
	for i := range rows {
		if out[i], err = c.row(&rows[i], q.GroupBy, against); err != nil {
			return nil, fmt.Errorf("usage: %w", err)
		}
	}
	return out, nil
}

func (c *comparison) row(r *router.UsageRow, by []string, against map[string][]router.NanoUSD) (*weirv1.UsageRow, error) {
	out := &weirv1.UsageRow{
		Group: make(map[string]string, len(by)), Calls: r.Calls, Attempts: r.Attempts, Usage: usageTokens(&r.Usage), CostNanoUsd: int64(r.Cost),
		SavingsNanoUsd: int64(r.Savings), Baseline: r.Baseline, UnpricedAttempts: r.Unpriced, UncomparedCalls: r.Uncompared,
	}
	for i, name := range by {
		out.Group[name] = r.Group[i]
	}
	if fee := c.rules.Accounts.GatewayFee; !fee.IsZero() {
		n, err := fee.Of(r.Cost, r.Calls, r.Usage.Input+r.Usage.Output)
		if err != nil {
			return nil, err
		}
		out.GatewayFeeNanoUsd = nano(n)
	}
	costs := against[key(r.Group)]
	for i, model := range c.models {
		b := &weirv1.BaselineSavings{Model: model}
		if costs != nil {
			b.CostNanoUsd = int64(costs[i])
		}
		saved, err := router.NanoUSD(b.GetCostNanoUsd()).Minus(r.Cost)
		if err != nil {
			return nil, err
		}
		b.SavingsNanoUsd = int64(saved)
		out.Baselines = append(out.Baselines, b)
	}
	return out, nil
}

// key tells groups apart; ids hold no NUL.
func key(group []string) string { return strings.Join(group, "\x00") }

// baselines prices each group's answers at each model: served model by served
// model, because tokens of another tokenizer are counted by both cards' ratios.
// A model that has left the catalog is taken to count as the baseline does.
func (c *comparison) baselines(ctx context.Context, q *router.UsageQuery) (map[string][]router.NanoUSD, error) {
	if len(c.models) == 0 {
		return nil, nil
	}
	fine := *q
	at := slices.Index(q.GroupBy, "model")
	if at < 0 {
		at = len(q.GroupBy)
		fine.GroupBy = append(slices.Clone(q.GroupBy), "model")
	}
	rows, err := c.source.Usage(ctx, &fine)
	if err != nil {
		return nil, err
	}
	out := map[string][]router.NanoUSD{}
	for i := range rows {
		r := &rows[i]
		served, ok := c.rules.Catalog.Model(r.Group[at])
		if !ok {
			served = &router.Model{}
		}
		k := key(r.Group[:len(q.GroupBy)])
		if out[k] == nil {
			out[k] = make([]router.NanoUSD, len(c.models))
		}
		calls := r.Calls
		if r.Answered.Input+r.Answered.Output == 0 {
			calls = 0 // nothing was answered: the baseline is not charged for it
		}
		for j, id := range c.models {
			baseline, ok := c.rules.Catalog.Model(id)
			if !ok {
				return nil, fmt.Errorf("usage: %w", router.ErrUnknownModel)
			}
			cost, err := router.BaselineCost(baseline, served, calls, r.Answered)
			if err == nil {
				out[k][j], err = out[k][j].Plus(cost)
			}
			if err != nil {
				return nil, fmt.Errorf("usage: %w", err)
			}
		}
	}
	return out, nil
}

func usageTokens(u *router.Usage) *weirv1.TokenUsage {
	return &weirv1.TokenUsage{
		InputTokens: u.Input, CachedInputTokens: u.CachedInput, CacheWriteTokens: u.CacheWrite, OutputTokens: u.Output,
		ReasoningTokens: u.Reasoning, Estimated: u.Estimated,
	}
}

// UsageGroups are the names that a Usage request may group by.
func UsageGroups() []string {
	return []string{"model", "provider", "tier", "domain", "policy", "day", "outcome", "status"}
}

// checkUsage reports everything that is wrong with a usage request.
func checkUsage(r *weirv1.UsageRequest, c *router.Catalog) error {
	f := &faults{}
	start, end := r.GetStartTime(), r.GetEndTime()
	if start != nil && start.CheckValid() != nil {
		f.add("start_time", "is no valid time: seconds and nanos must be in range")
	}
	if end != nil && end.CheckValid() != nil {
		f.add("end_time", "is no valid time: seconds and nanos must be in range")
	}
	if start != nil && end != nil && !start.AsTime().Before(end.AsTime()) {
		f.add("end_time", "is not after start_time: swap them, or leave one out")
	}
	for i, g := range r.GetGroupBy() {
		field := fmt.Sprintf("group_by[%d]", i)
		switch {
		case !slices.Contains(UsageGroups(), g):
			f.add(field, "is unknown: use some of %s", strings.Join(UsageGroups(), ", "))
		case slices.Contains(r.GetGroupBy()[:i], g):
			f.add(field, "is there twice: name it once")
		}
		if i == len(UsageGroups()) {
			break
		}
	}
	if n := len(r.GetBaselines()); n > maxBaselines {
		f.add("baselines", "has %d models: name at most %d", n, maxBaselines)
		return f.err()
	}
	for i, id := range r.GetBaselines() {
		field := fmt.Sprintf("baselines[%d]", i)
		m, ok := c.Model(id)
		switch {
		case !ok:
			f.add(field, "is no model of the catalog: name one that ListModels lists")
		case !m.Price.Input.Known || !m.Price.Output.Known:
			f.add(field, "has no price: name a model that has one")
		case slices.Contains(r.GetBaselines()[:i], id):
			f.add(field, "is there twice: name it once")
		}
	}
	return f.err()
}
