package server

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// usageSource answers by the groups asked for and keeps the queries.
type usageSource struct {
	byModel []router.UsageRow
	total   router.UsageRow
	asked   []router.UsageQuery
	err     error
}

func (s *usageSource) Usage(_ context.Context, q *router.UsageQuery) ([]router.UsageRow, error) {
	s.asked = append(s.asked, *q)
	if len(q.GroupBy) > 0 {
		return s.byModel, s.err
	}
	return []router.UsageRow{s.total}, s.err
}

func usageRules(t *testing.T) *router.Rules {
	t.Helper()
	rules, err := router.ParseConfig(router.DefaultConfig(), "test", func(string) string { return "" })
	require.NoError(t, err)
	return rules
}

func TestUsageCompares(t *testing.T) {
	rules := usageRules(t)
	rules.Accounts.GatewayFee = router.GatewayFee{Share: 100_000}
	dear, cheap := rules.Catalog.Models()[0], rules.Catalog.Models()[1]
	tokens := router.Usage{Input: 1000, Output: 100}
	s := &usageSource{
		byModel: []router.UsageRow{
			{Group: []string{cheap.ID}, Calls: 2, Attempts: 3, Usage: router.Usage{Input: 1500, Output: 100, Estimated: true}, Answered: tokens, Cost: 500, Savings: -20, Baseline: "b", Unpriced: 1, Uncompared: 1},
			{Group: []string{"gone"}, Calls: 1, Cost: 10},
		},
		total: router.UsageRow{Calls: 3, Attempts: 3, Cost: 510, Savings: -20},
	}
	from, to := time.Unix(1000, 0).UTC(), time.Unix(2000, 0).UTC()
	resp, err := UsageOf(t.Context(), s, rules, &weirv1.UsageRequest{
		StartTime: timestamppb.New(from), EndTime: timestamppb.New(to), GroupBy: []string{"model"}, Baselines: []string{dear.ID},
	})
	require.NoError(t, err)
	for _, q := range s.asked {
		assert.Equal(t, from, q.From)
		assert.Equal(t, to, q.To)
	}
	would, err := router.BaselineCost(dear, cheap, 2, tokens)
	require.NoError(t, err)
	require.Len(t, resp.GetRows(), 2)
	r := resp.GetRows()[0]
	assert.Equal(t, map[string]string{"model": cheap.ID}, r.GetGroup())
	assert.EqualValues(t, -20, r.GetSavingsNanoUsd(), "a loss is shown as one")
	assert.EqualValues(t, 1, r.GetUnpricedAttempts())
	assert.EqualValues(t, 1, r.GetUncomparedCalls())
	assert.True(t, r.GetUsage().GetEstimated())
	assert.EqualValues(t, 50, r.GetGatewayFeeNanoUsd())
	assert.EqualValues(t, would, r.GetBaselines()[0].GetCostNanoUsd())
	assert.EqualValues(t, would-500, r.GetBaselines()[0].GetSavingsNanoUsd())
	failed := resp.GetRows()[1].GetBaselines()[0]
	assert.Zero(t, failed.GetCostNanoUsd(), "a call without an answer costs a baseline nothing")
	assert.EqualValues(t, -10, failed.GetSavingsNanoUsd())
	total := resp.GetTotal()
	assert.EqualValues(t, would, total.GetBaselines()[0].GetCostNanoUsd())
	assert.EqualValues(t, would-510, total.GetBaselines()[0].GetSavingsNanoUsd())
	assert.EqualValues(t, 51, total.GetGatewayFeeNanoUsd())

	rules.Accounts.GatewayFee = router.GatewayFee{}
	resp, err = UsageOf(t.Context(), s, rules, &weirv1.UsageRequest{})
	require.NoError(t, err)
	assert.Empty(t, resp.GetRows())
	assert.Nil(t, resp.GetTotal().GatewayFeeNanoUsd, "no fee was entered")
}

func TestUsageRefuses(t *testing.T) {
	rules := usageRules(t)
	model := rules.Catalog.Models()[0].ID
	many := make([]string, maxBaselines+1)
	for name, x := range map[string]struct {
		req   *weirv1.UsageRequest
		field string
	}{
		"group":         {&weirv1.UsageRequest{GroupBy: []string{"model", "week"}}, "group_by[1]"},
		"group twice":   {&weirv1.UsageRequest{GroupBy: []string{"day", "day"}}, "group_by[1]"},
		"start":         {&weirv1.UsageRequest{StartTime: &timestamppb.Timestamp{Nanos: -1}}, "start_time"},
		"end":           {&weirv1.UsageRequest{EndTime: &timestamppb.Timestamp{Seconds: 1 << 60}}, "end_time"},
		"order":         {&weirv1.UsageRequest{StartTime: timestamppb.New(time.Unix(5, 0)), EndTime: timestamppb.New(time.Unix(5, 0))}, "end_time"},
		"baseline":      {&weirv1.UsageRequest{Baselines: []string{"nobody"}}, "baselines[0]"},
		"twice":         {&weirv1.UsageRequest{Baselines: []string{model, model}}, "baselines[1]"},
		"too many":      {&weirv1.UsageRequest{Baselines: many}, "baselines"},
		"nothing known": {&weirv1.UsageRequest{GroupBy: []string{""}}, "group_by[0]"},
	} {
		s := &usageSource{}
		_, err := UsageOf(t.Context(), s, rules, x.req)
		require.True(t, Invalid(err), name)
		assert.Contains(t, err.Error(), x.field, name)
		assert.Empty(t, s.asked, "nothing was read for it")
	}
	_, err := UsageOf(t.Context(), &usageSource{err: context.DeadlineExceeded}, rules, &weirv1.UsageRequest{})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	overflow := &usageSource{total: router.UsageRow{Cost: 1 << 62, Calls: 1}}
	rules.Accounts.GatewayFee = router.GatewayFee{Share: 1_000_000, PerCall: 1 << 62}
	_, err = UsageOf(t.Context(), overflow, rules, &weirv1.UsageRequest{})
	assert.ErrorIs(t, err, router.ErrOverflow)
}
