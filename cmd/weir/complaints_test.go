package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testNames are the tests of the whole tree, those behind build tags too.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	root := filepath.Join("..", "..")
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && (name == "third_party" || name == "build" || (strings.HasPrefix(name, ".") && name != "..")) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range declared.FindAllStringSubmatch(string(raw), -1) {
			names[m[1]] = true
		}
		return nil
	}))
	require.Greater(t, len(names), 200, "the tree was not read")
	return names
}

// TestComplaintsNameRealTests: every row of docs/complaints.md names a test, and
// every test that it names exists.
func TestComplaintsNameRealTests(t *testing.T) {
	names := testNames(t)
	quoted := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	rows := 0
	for _, line := range strings.Split(page(t, "complaints.md"), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || strings.Contains(cells[1], "---") || strings.TrimSpace(cells[1]) == "complaint" {
			assert.False(t, strings.HasPrefix(line, "|") && len(cells) != 6, "a row has %d cells: %s", len(cells)-2, line)
			continue
		}
		rows++
		tests := quoted.FindAllStringSubmatch(cells[4], -1)
		assert.NotEmpty(t, tests, "no test shows this: %s", cells[1])
		for _, m := range tests {
			assert.True(t, names[m[1]], "%s does not exist: %s", m[1], cells[1])
		}
	}
	assert.GreaterOrEqual(t, rows, 20)
	assert.False(t, names["TestThatNobodyWrote"], "the check cannot fail")
}
