package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

// fakeSwapper stages "good", refuses "bad" and takes longer than any other call
// may for "slow".
type fakeSwapper struct {
	status BundleStatus
}

func (f *fakeSwapper) Stage(ctx context.Context, name string) (StagedBundle, error) {
	switch name {
	case "good":
		return StagedBundle{Bundle{Name: "good", Digest: "sha256:g"}, []Gate{{"probes", true, "fine"}}, "/page"}, nil
	case "slow":
		deadline, ok := ctx.Deadline()
		if ok && time.Until(deadline) < time.Minute {
			return StagedBundle{}, errors.New("an examination does not get its time")
		}
		return StagedBundle{}, nil
	default:
		gates := []Gate{{"digests", false, "fast.onnx has another"}, {"probes", false, "probe 3"}}
		return StagedBundle{}, &BundleRefusedError{Gates: gates, Report: "/page", Err: errors.New("refused")}
	}
}

func (f *fakeSwapper) Promote(_ context.Context, digest string) (Bundle, error) {
	if digest != "sha256:g" {
		return Bundle{}, fmt.Errorf("promote: %w", ErrNotStaged)
	}
	return Bundle{Name: "good", Digest: digest}, nil
}

func (f *fakeSwapper) Rollback(context.Context) (Bundle, error) {
	return Bundle{}, fmt.Errorf("roll back: %w", ErrNoPreviousBundle)
}

func (f *fakeSwapper) Bundles() BundleStatus { return f.status }

func TestBundlesOverTheWire(t *testing.T) {
	at := time.Unix(1000, 0).UTC()
	swap := &fakeSwapper{BundleStatus{
		Serving: Bundle{Name: "b", Digest: "sha256:b", Since: at}, Staged: &Bundle{Digest: "sha256:g"}, Previous: &Bundle{Digest: "sha256:a"}, SettlesAt: at.Add(time.Hour),
		Refusal: &BundleRefusal{Bundle{Digest: "sha256:x"}, []Gate{{"graph", false, "opset"}}, at, "/page"},
		History: []Bundle{{Digest: "sha256:b", Since: at, Origin: "promoted"}, {Digest: "sha256:a", Since: at.Add(-time.Hour), Until: at, Reason: "old"}},
	}}
	w := newWorld(t, func(w *world) { w.cfg.Swap = swap }).run()
	admin := w.admin()

	staged, err := admin.StageBundle(t.Context(), &weirv1.StageBundleRequest{Name: "good"})
	require.NoError(t, err)
	assert.Equal(t, "sha256:g", staged.GetBundle().GetDigest())
	assert.True(t, staged.GetGates()[0].GetPassed())
	assert.Equal(t, "/page", staged.GetReport())
	_, err = admin.StageBundle(t.Context(), &weirv1.StageBundleRequest{Name: "slow"})
	require.NoError(t, err)

	_, err = admin.StageBundle(t.Context(), &weirv1.StageBundleRequest{Name: "bad"})
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	d := detailsIn(t, status.Convert(err))
	assert.Equal(t, "BUNDLE_REFUSED", d.info.GetReason())
	require.Len(t, d.precondition.GetViolations(), 2)
	assert.Equal(t, "fast.onnx has another", d.precondition.GetViolations()[0].GetDescription())

	promoted, err := admin.PromoteBundle(t.Context(), &weirv1.PromoteBundleRequest{Digest: "sha256:g"})
	require.NoError(t, err)
	assert.Equal(t, "good", promoted.GetBundle().GetName())
	_, err = admin.PromoteBundle(t.Context(), &weirv1.PromoteBundleRequest{Digest: "sha256:other"})
	assert.Equal(t, codes.FailedPrecondition, status.Code(err))
	_, err = admin.PromoteBundle(t.Context(), &weirv1.PromoteBundleRequest{})
	assert.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = admin.RollbackBundle(t.Context(), &weirv1.RollbackBundleRequest{})
	assert.Equal(t, codes.FailedPrecondition, status.Code(err))

	got, err := admin.GetBundle(t.Context(), &weirv1.GetBundleRequest{})
	require.NoError(t, err)
	assert.Equal(t, weirv1.BundleState_BUNDLE_STATE_SETTLING, got.GetState())
	assert.Equal(t, at.Add(time.Hour), got.GetSettleTime().AsTime())
	assert.Equal(t, "sha256:a", got.GetPrevious().GetDigest())
	assert.Equal(t, "opset", got.GetRefusal().GetGates()[0].GetDetail())
	swap.status.SettlesAt, swap.status.Staged, swap.status.Refusal = time.Time{}, nil, nil
	got, err = admin.GetBundle(t.Context(), &weirv1.GetBundleRequest{})
	require.NoError(t, err)
	assert.Equal(t, weirv1.BundleState_BUNDLE_STATE_STEADY, got.GetState())
	assert.Nil(t, got.GetStaged())

	list, err := admin.ListBundles(t.Context(), &weirv1.ListBundlesRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetBundles(), 2)
	assert.Equal(t, "promoted", list.GetBundles()[0].GetOrigin())
	assert.Nil(t, list.GetBundles()[0].GetEndTime())
	assert.Equal(t, "old", list.GetBundles()[1].GetEndReason())
}

// TestHealthDetail: a server that settles, or refused a bundle, is healthy and says so.
func TestHealthDetail(t *testing.T) {
	until := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	swap := &fakeSwapper{BundleStatus{
		Serving: Bundle{Name: "b", Version: "2", Since: until.Add(-time.Minute)}, Previous: &Bundle{Name: "b", Version: "1", Digest: "sha256:1"}, SettlesAt: until,
		Refusal: &BundleRefusal{Bundle: Bundle{Name: "b", Version: "3"}, Gates: []Gate{{Name: "digests", Detail: "why"}}, Time: until},
	}}
	w := newWorld(t, func(w *world) {
		w.cfg.Swap = swap
		snap := w.cfg.Store.Acquire()
		defer snap.Release()
		swap.status.Serving.Digest = snap.Classifier.Info().Digest
	}).run()
	get := func() (d healthDetail) {
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + w.addrs.Metrics.String() + "/healthz?detail")
		require.NoError(t, err)
		defer res.Body.Close() //nolint:errcheck // it was only read
		assert.Equal(t, http.StatusOK, res.StatusCode)
		require.NoError(t, json.NewDecoder(res.Body).Decode(&d))
		return d
	}
	d := get()
	assert.Equal(t, []string{"SERVING", "settling", "2", "1", "3", "digests"},
		[]string{d.Status, d.State, d.Bundle.Version, d.Previous.Version, d.Refusal.Bundle.Version, d.Refusal.Gates[0]})
	assert.Equal(t, until, *d.Settles)
	assert.Equal(t, until.Add(-time.Minute), *d.Bundle.Since)
	assert.NotEmpty(t, d.Config)
	assert.Nil(t, d.Staged)
	swap.status = BundleStatus{}
	d = get()
	assert.Equal(t, "steady", d.State)
	assert.NotEmpty(t, d.Bundle.Digest, "what decides is known in any case")
	assert.Nil(t, d.Settles)
	assert.Nil(t, d.Refusal)
}
