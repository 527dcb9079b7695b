package arch

import (
	"fmt"
	"slices"
	"strings"
)

// module is the path of the module; rooms are named below it.
const module = "github.com/weirhq/weir"

// room is a package with what it may import beside the standard library.
type room struct {
	name string
	// arrows are the rooms that it may import.
	arrows []string
	// modules are path prefixes of outside packages that it may import; "C" is cgo.
	modules []string
	// testArrows are the rooms that its tests may import as well.
	testArrows []string
	// noNetwork forbids net and net/http: the room speaks to nobody.
	noNetwork bool
}

// drawing is the plan, from the bottom to the top:
//
//	4  cmd/weir -> everything below
//	3  internal/server -> router, classifier, proto    internal/upstream -> router, classifier
//	   internal/ledger -> router
//	   internal/telemetry -> router, classifier        internal/swap -> router, eval
//	   internal/catalog -> router
//	   eval -> router, classifier                      classifier/onnx -> classifier
//	   internal/watch -> nothing
//	2  router -> classifier
//	1  classifier                                      proto
//
// server and telemetry know classifier beside router, because a router.Request
// is made of its messages, and its errors and domains have names that both must
// tell apart. server does not know telemetry: cmd hands it an Observer, an
// http.Handler and a stats.Handler.
func drawing() []room {
	grpc := []string{"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto/googleapis/rpc"}
	return []room{
		{name: "classifier", noNetwork: true, testArrows: []string{"classifier/classifiertest"}},
		{name: "classifier/classifiertest", arrows: []string{"classifier"}, modules: []string{"github.com/stretchr/testify"}, noNetwork: true},
		{name: "proto/weir/v1", modules: grpc},
		{
			name: "classifier/onnx", arrows: []string{"classifier"}, noNetwork: true, testArrows: []string{"classifier/classifiertest"},
			modules: []string{"C", "github.com/daulet/tokenizers", "github.com/yalue/onnxruntime_go", "golang.org/x/sys", "google.golang.org/protobuf/encoding/protowire"},
		},
		{name: "router", arrows: []string{"classifier"}, testArrows: []string{"internal/upstream/upstreamtest"}, modules: []string{"go.yaml.in/yaml/v3"}, noNetwork: true},
		{name: "eval", arrows: []string{"router", "classifier"}, modules: []string{"github.com/klauspost/compress", "golang.org/x/sync/errgroup", "gonum.org/v1/gonum"}, noNetwork: true},
		{name: "eval/sets", arrows: []string{"eval"}, noNetwork: true},
		{name: "internal/upstream", arrows: []string{"router", "classifier"}, testArrows: []string{"internal/upstream/upstreamtest"}},
		{name: "internal/upstream/upstreamtest", arrows: []string{"router"}},
		{
			name: "internal/ledger", arrows: []string{"router", "classifier"}, testArrows: []string{"internal/ledger/ledgertest"},
			modules: []string{"modernc.org/sqlite"}, noNetwork: true,
		},
		{name: "internal/ledger/ledgertest", arrows: []string{"router", "classifier"}, modules: []string{"github.com/stretchr/testify"}, noNetwork: true},
		{name: "internal/catalog", arrows: []string{"router"}, noNetwork: true},
		{name: "internal/swap", arrows: []string{"router", "eval", "classifier"}, modules: []string{"gonum.org/v1/gonum"}, noNetwork: true},
		{name: "internal/watch", modules: []string{"github.com/fsnotify/fsnotify"}, noNetwork: true},
		{
			name: "internal/server", arrows: []string{"router", "classifier", "proto/weir/v1"}, testArrows: []string{"internal/telemetry", "internal/upstream", "internal/upstream/upstreamtest"},
			modules: append([]string{"golang.org/x/net/netutil"}, grpc...),
		},
		{
			name: "internal/telemetry", arrows: []string{"router", "classifier"},
			modules: []string{"github.com/prometheus/client_golang", "go.opentelemetry.io/", "google.golang.org/grpc"},
		},
		{name: "internal/arch"},
		{name: "cmd/weir", arrows: []string{"*"}, modules: []string{"*"}},
	}
}

// edge is an import. test marks those of a package's tests.
type edge struct {
	from, to string
	test     bool
}

// faults returns a sentence for every edge that the drawing does not have.
func faults(rooms []room, edges []edge) []string {
	byName := map[string]room{}
	for _, r := range rooms {
		byName[r.name] = r
	}
	var out []string
	for _, e := range edges {
		from, ok := inModule(e.from)
		if !ok {
			continue
		}
		r, ok := byName[from]
		if !ok {
			out = append(out, fmt.Sprintf("%s is not in the drawing: add it to drawing() with its arrows", from))
			continue
		}
		if why := r.refuses(e); why != "" {
			out = append(out, fmt.Sprintf("%s imports %s: %s", from, e.to, why))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// refuses says why the room may not import; "" when it may.
func (r room) refuses(e edge) string {
	if to, ok := inModule(e.to); ok {
		switch {
		case strings.HasPrefix(to, "cmd/"):
			return "nothing imports a command"
		case slices.Contains(r.arrows, "*"), slices.Contains(r.arrows, to):
			return ""
		case to == r.name, e.test && slices.Contains(r.testArrows, to):
			return ""
		default:
			return fmt.Sprintf("no such arrow; it may import %v", r.arrows)
		}
	}
	switch {
	case e.test:
		return "" // tests may use any library
	case isStandard(e.to):
		if r.noNetwork && (e.to == "net" || e.to == "net/http" || e.to == "os/exec") {
			return "this room speaks to nobody"
		}
		return ""
	case slices.ContainsFunc(r.modules, func(m string) bool { return m == "*" || under(e.to, m) }):
		return ""
	default:
		return fmt.Sprintf("no such library; it may use %v", r.modules)
	}
}

func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
}

// inModule returns the room's name. What lies in a room's own internal folder
// is the room.
func inModule(path string) (string, bool) {
	if path == module {
		return ".", true
	}
	name, ok := strings.CutPrefix(path, module+"/")
	if owner, _, inside := strings.Cut(name, "/internal/"); inside {
		name = owner
	}
	return name, ok
}

// isStandard tells a package of the standard library: its first element has no
// dot. "C" is none: it is a door.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return path != "C" && !strings.Contains(first, ".")
}
