package eval

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// localRepository makes a git repository in RouteLLM's layout and returns it
// with its commit.
func localRepository(t *testing.T) (dir, commit string) {
	t.Helper()
	dir = t.TempDir()
	routeLLMFixture(t, filepath.Join(dir, "routellm/evals"))
	writeFile(t, dir, "unrelated/large.bin", "not fetched")
	git := func(args ...string) string {
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"}, args...)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return strings.TrimSpace(string(out))
	}
	git("init", "-q")
	git("add", ".")
	git("commit", "-q", "-m", "data")
	git("config", "uploadpack.allowAnySHA1InWant", "true")
	git("config", "uploadpack.allowFilter", "true")
	commit = git("rev-parse", "HEAD")
	// The branch moves on; the pin does not.
	writeFile(t, dir, "routellm/evals/gsm8k/gsm8k_responses.csv", "prompt\nchanged later\n")
	git("commit", "-q", "-a", "-m", "later")
	return dir, commit
}

func fetch(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command(filepath.Join("..", "scripts", "fetch-benchmarks"), args...).CombinedOutput()
	return string(out), err
}

func TestFetchBenchmarks(t *testing.T) {
	for _, tool := range []string{"git", "bash", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	repository, commit := localRepository(t)
	manifest := func(commit, digest string) string {
		return writeFile(t, t.TempDir(), "manifest", "# NAME URL COMMIT DIGEST PATH\n\nroutellm file://"+repository+" "+commit+" "+digest+" routellm/evals\n")
	}
	folder := filepath.Join(t.TempDir(), "benchmarks")
	out, err := fetch(t, "--manifest", manifest(commit, "-"), folder)
	require.NoError(t, err, out)
	assert.NoFileExists(t, filepath.Join(folder, "routellm", "unrelated", "large.bin"), "only the named paths are checked out")
	sources, err := RouteLLM(filepath.Join(folder, "routellm"))
	require.NoError(t, err)
	require.Len(t, sources, 3)
	assert.Len(t, all(t, sources[1].Cases), 1, "the pinned commit, not the branch")

	digest, err := fetch(t, "--digest", filepath.Join(folder, "routellm"), "routellm/evals")
	require.NoError(t, err, digest)
	digest = strings.TrimSpace(digest)
	require.Regexp(t, "^sha256:[0-9a-f]{64}$", digest)
	out, err = fetch(t, "--manifest", manifest(commit, digest), folder)
	require.NoError(t, err, out)
	assert.Contains(t, out, "is there, checked")

	wrong := "sha256:" + strings.Repeat("0", 64)
	other := filepath.Join(t.TempDir(), "other")
	for name, tc := range map[string]struct {
		args []string
		says string
	}{
		"another digest":        {[]string{"--manifest", manifest(commit, wrong), other}, "has digest " + digest},
		"another digest, again": {[]string{"--manifest", manifest(commit, wrong), folder}, "remove it"},
		"a commit nobody has":   {[]string{"--manifest", manifest(strings.Repeat("1", 40), "-"), other}, "cannot fetch"},
		"a branch":              {[]string{"--manifest", manifest("main", "-"), other}, "can move"},
		"a name not there":      {[]string{"--manifest", manifest(commit, "-"), "--only", "x", other}, "no x"},
		"no folder":             {nil, "one folder"},
		"an unknown flag":       {[]string{"--fly", other}, "--help"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := fetch(t, tc.args...)
			require.Error(t, err)
			assert.Contains(t, out, tc.says)
			left, _ := os.ReadDir(other)
			assert.Empty(t, left, "no half a benchmark is left")
		})
	}
	tampered := filepath.Join(folder, "routellm", "routellm", "evals", "gsm8k", "gsm8k_responses.csv")
	require.NoError(t, os.WriteFile(tampered, []byte("prompt\ntampered\n"), 0o600))
	out, err = fetch(t, "--manifest", manifest(commit, "-"), folder)
	require.Error(t, err)
	assert.Contains(t, out, "differ from the commit")
}
