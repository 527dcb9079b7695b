package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// goPackage is what `go list -json` says of a package.
type goPackage struct {
	ImportPath, Dir, Doc               string
	GoFiles, CgoFiles                  []string
	IgnoredGoFiles                     []string
	TestGoFiles, XTestGoFiles          []string
	Imports, TestImports, XTestImports []string
	Error                              *struct{ Err string }
}

// list lists the module's packages. It compiles nothing, so that the native
// lane is listed without its libraries.
func list(t *testing.T, tags string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-tags", tags, "-json=ImportPath,Dir,Doc,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports,Error", module+"/...")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=1") // without it the cgo files would not be listed
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	raw, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var out []goPackage
	for dec := json.NewDecoder(bytes.NewReader(raw)); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.Nil(t, p.Error, p.ImportPath)
		out = append(out, p)
	}
	require.GreaterOrEqual(t, len(out), 8, "go list sees the whole module")
	noteFolders(t, out)
	return out
}

// noteFolders reads every folder on the way to a package: go test sees that, and
// a new file or package makes its cached result stale. What go list reads, it
// does not see.
func noteFolders(t *testing.T, pkgs []goPackage) {
	t.Helper()
	read := map[string]bool{}
	for _, p := range pkgs {
		up := strings.Count(strings.TrimPrefix(p.ImportPath, module), "/")
		for dir := p.Dir; up >= 0 && !read[dir]; dir, up = filepath.Dir(dir), up-1 {
			_, err := os.ReadDir(dir)
			require.NoError(t, err)
			read[dir] = true
		}
	}
}

func edgesOf(pkgs []goPackage) []edge {
	var out []edge
	for _, p := range pkgs {
		// A package without imports must be in the drawing too.
		out = append(out, edge{p.ImportPath, "errors", false})
		for _, to := range p.Imports {
			out = append(out, edge{p.ImportPath, to, false})
		}
		for _, to := range slices.Concat(p.TestImports, p.XTestImports) {
			out = append(out, edge{p.ImportPath, to, true})
		}
	}
	return out
}

func TestArrows(t *testing.T) {
	for _, tags := range []string{"", "native"} {
		t.Run("tags="+tags, func(t *testing.T) {
			assert.Empty(t, faults(drawing(), edgesOf(list(t, tags))))
		})
	}
}

// The native lane is really listed, or its arrows would be held by nothing.
func TestNativeLaneIsListed(t *testing.T) {
	cgo := map[string]bool{}
	for _, p := range list(t, "native") {
		for _, to := range p.Imports {
			cgo[p.ImportPath+" "+to] = true
		}
	}
	assert.True(t, cgo[module+"/classifier/onnx github.com/yalue/onnxruntime_go"])
	assert.True(t, cgo[module+"/classifier/onnx github.com/daulet/tokenizers"])
}

// The arrows that must never be, each planted: a check that cannot fail holds
// nothing.
func TestPlantedArrowsAreCaught(t *testing.T) {
	m := module + "/"
	forbidden := []edge{
		{m + "router", m + "classifier/onnx", false},
		{m + "router", m + "internal/upstream", false},
		{m + "router", m + "internal/server", false},
		{m + "router", m + "proto/weir/v1", false},
		{m + "router", m + "classifier/onnx", true},
		{m + "router", "google.golang.org/grpc", false},
		{m + "router", "net/http", false},
		{m + "eval", m + "internal/upstream", false},
		{m + "eval", m + "internal/server", false},
		{m + "classifier", m + "router", false},
		{m + "classifier", m + "classifier/onnx", false},
		{m + "classifier", m + "classifier/classifiertest", false},
		{m + "classifier", "github.com/stretchr/testify/require", false},
		{m + "classifier", "golang.org/x/text", false},
		{m + "classifier", "C", false},
		{m + "router", "C", false},
		{m + "cmd/weir", m + "cmd/other", false},
		{m + "internal/server", m + "cmd/weir", false},
		{m + "internal/server", m + "cmd/weir", true},
		{m + "internal/server", m + "internal/telemetry", false},
		{m + "internal/server", m + "classifier/onnx", false},
		{m + "internal/telemetry", m + "internal/server", false},
		{m + "internal/telemetry", m + "proto/weir/v1", false},
		{m + "classifier/onnx", m + "router", false},
		{m + "classifier/onnx", "google.golang.org/protobuf/proto", false},
		{m + "proto/weir/v1", m + "router", false},
		{m + "internal/unknown", "errors", false},
		{m + "eval/unknown", "errors", false},
		{m + "eval/internal/part", m + "internal/server", false},
		{module, "errors", false},
	}
	for _, e := range forbidden {
		assert.Len(t, faults(drawing(), []edge{e}), 1, "%s -> %s", e.from, e.to)
	}
	allowed := []edge{
		{m + "router", m + "classifier", false},
		{m + "router", "net/url", false},
		{m + "eval", m + "eval/internal/part", false},
		{m + "internal/server", m + "proto/weir/v1", false},
		{m + "internal/server", m + "internal/telemetry", true},
		{m + "classifier", m + "classifier", true},
		{m + "classifier", "github.com/stretchr/testify/require", true},
		{m + "classifier/onnx", "C", false},
		{m + "cmd/weir", m + "internal/server", false},
		{"google.golang.org/grpc", "net/http", false},
	}
	assert.Empty(t, faults(drawing(), allowed))
}

// The drawing has no cycle, and no arrow to a room that is not drawn.
func TestDrawingIsSound(t *testing.T) {
	rooms := map[string]room{}
	for _, r := range drawing() {
		_, twice := rooms[r.name]
		assert.False(t, twice, r.name)
		rooms[r.name] = r
	}
	var visit func(name string, path []string)
	visit = func(name string, path []string) {
		require.NotContains(t, path, name, "a cycle: %s", strings.Join(path, " -> "))
		r, ok := rooms[name]
		require.True(t, ok, "%s is drawn nowhere", name)
		for _, to := range r.arrows {
			if to != "*" {
				visit(to, append(slices.Clone(path), name))
			}
		}
	}
	for name := range rooms {
		visit(name, nil)
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range list(t, "native") {
		want := "Package "
		if strings.HasPrefix(p.ImportPath, module+"/cmd/") {
			want = "Command "
		}
		if strings.HasPrefix(p.ImportPath, module+"/proto/") {
			continue // generated; the proto files say it
		}
		assert.True(t, strings.HasPrefix(p.Doc, want), "%s: its doc comment starts with %q", p.ImportPath, p.Doc)
	}
}
