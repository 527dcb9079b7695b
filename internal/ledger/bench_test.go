package ledger

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/ledger/ledgertest"
	"github.com/weirhq/weir/router"
)

// BenchmarkCall reserves and settles one call, synced, by one caller and by 64
// that share syncs.
func BenchmarkCall(b *testing.B) {
	for _, parallel := range []int{1, 64} {
		b.Run(fmt.Sprint("callers=", parallel), func(b *testing.B) {
			l, err := Open(b.Context(), Config{Path: filepath.Join(b.TempDir(), "ledger.db")})
			require.NoError(b, err)
			defer func() { require.NoError(b, l.Close()) }()
			var n atomic.Int64
			call := func() {
				id := fmt.Sprint(n.Add(1))
				r := ledgertest.Reservation(id, 10)
				r.Budget = router.Budget{Limit: 1 << 60, Window: router.WindowMonth}
				if err := l.Reserve(b.Context(), r); err != nil {
					b.Error(err)
				}
				if _, err := l.Settle(b.Context(), ledgertest.Settlement(id, 5)); err != nil {
					b.Error(err)
				}
			}
			if parallel == 1 {
				for b.Loop() {
					call()
				}
				return
			}
			b.SetParallelism(parallel / 2)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					call()
				}
			})
		})
	}
}
