package router_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/router"
)

// A config reload keeps the classifier: who closes it has to wait for the leases
// from before the reload too.
func TestDrainedWaitsForTheLeasesBeforeAReload(t *testing.T) {
	_, store, _ := newRouter(t, &fake{digest: "a"})
	early := store.Acquire()
	reload := func() {
		_, err := store.Publish(func(c classifier.Classifier, r *router.Rules) (classifier.Classifier, *router.Rules, error) {
			return c, r, nil
		})
		require.NoError(t, err)
	}
	reload()
	reload()
	old, err := store.Publish(func(_ classifier.Classifier, r *router.Rules) (classifier.Classifier, *router.Rules, error) {
		return &fake{digest: "b"}, r, nil
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, old.Drained(ctx), context.DeadlineExceeded, "an early lease holds the classifier")
	early.Release()
	require.NoError(t, old.Drained(t.Context()))
}

// Reloads that nobody waits for must not keep each other in memory.
func TestReloadsMakeNoChain(t *testing.T) {
	_, store, _ := newRouter(t, &fake{digest: "a"})
	freed := make(chan struct{}, 100)
	for range 100 {
		old, err := store.Publish(func(c classifier.Classifier, r *router.Rules) (classifier.Classifier, *router.Rules, error) {
			return c, r, nil
		})
		require.NoError(t, err)
		runtime.AddCleanup(old, func(int) { freed <- struct{}{} }, 0)
	}
	assert.Eventually(t, func() bool {
		runtime.GC()
		return len(freed) >= 90
	}, 10*time.Second, 10*time.Millisecond, "%d of 100 old snapshots were freed", len(freed))
	runtime.KeepAlive(store) // it leads to the serving snapshot
}
