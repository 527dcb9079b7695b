package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/router"
)

func page(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	require.NoError(t, err)
	return string(raw)
}

// TestCatalogPageCountsWhatIsShipped holds the figures and the table of
// docs/catalog.md against the embedded config.
func TestCatalogPageCountsWhatIsShipped(t *testing.T) {
	text := page(t, "catalog.md")
	rules, err := router.LoadConfig("", func(string) string { return "" })
	require.NoError(t, err)
	tiers, makers, domains := map[router.Tier]int{}, map[string]bool{}, map[string]int{}
	deployments, own := 0, 0
	rows := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 6 {
			rows[strings.TrimSpace(cells[1])] = line
		}
	}
	for _, m := range rules.Catalog.Models() {
		maker, name, _ := strings.Cut(m.ID, "/")
		makers[maker] = true
		tiers[m.Tier]++
		for _, d := range m.Domains {
			domains[d.String()]++
		}
		for _, d := range m.Deployments {
			deployments++
			if d.Price != nil {
				own++
			}
		}
		cell := map[router.Tier]int{router.HighPerformance: 2, router.Efficient: 3, router.DomainSpecialist: 4}[m.Tier]
		cells := strings.Split(rows[maker], "|")
		require.Len(t, cells, 6, "the table has no row for %s", maker)
		assert.Regexp(t, `(^| )`+regexp.QuoteMeta(name)+`($|,| )`, cells[cell], "the table does not have %s in its tier's column", m.ID)
	}
	for _, n := range []struct {
		want int
		in   string
	}{
		{len(rules.Catalog.Models()), `(\d+) models of \d+ makers`},
		{len(makers), `models of (\d+) makers`},
		{tiers[router.HighPerformance], `(\d+) HIGH_PERFORMANCE,`},
		{tiers[router.Efficient], `(\d+) EFFICIENT and`},
		{tiers[router.DomainSpecialist], `(\d+) specialists`},
		{domains["coding"], `\((\d+) coding,`},
		{domains["medical"], `(\d+) medical\)`},
		{len(rules.Upstreams), `at (\d+) upstreams`},
		{deployments, `by (\d+) deployments`},
		{own, `deployments, (\d+) of`},
		{len(rules.Catalog.Models()), `so all (\d+) are`},
		{deployments, `finds all (\d+) deployments`},
	} {
		got := regexp.MustCompile(n.in).FindStringSubmatch(text)
		if assert.Len(t, got, 2, n.in) {
			assert.Equal(t, strconv.Itoa(n.want), got[1], n.in)
		}
	}
}

// TestCatalogPageRunsAsWritten runs the page's example and compares what it
// prints.
func TestCatalogPageRunsAsWritten(t *testing.T) {
	block := regexp.MustCompile("(?s)```console\n\\$ weir ([^\n]*)\n(.*?)```").FindStringSubmatch(page(t, "catalog.md"))
	require.Len(t, block, 3)
	t.Chdir(filepath.Join("..", ".."))
	var args []string
	for _, a := range strings.Fields(block[1]) {
		args = append(args, strings.Trim(a, "'"))
	}
	code, out, stderr := weir(t, "", args...)
	require.Zero(t, code, stderr)
	assert.Equal(t, block[2], out)
}
