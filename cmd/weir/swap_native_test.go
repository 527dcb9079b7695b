//go:build native && cgo

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weirhq/weir/internal/swap"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

// served is a running server with what a test looks at.
type served struct {
	t                 *testing.T
	listen, admin     string
	live, root, state string
	logs              *lockedBuffer
	client            weirv1.RouterServiceClient
	operator          weirv1.AdminServiceClient
	stop              func()
}

// quickGate is a gate policy whose replay takes a quarter of the shipped set, for
// tests under the race detector, beside other packages' tests.
func quickGate(t *testing.T) string {
	t.Helper()
	all := strings.SplitAfter(string(readIn(t, filepath.Join("..", "..", "eval", "sets"), "weir-local.jsonl")), "\n")
	var some strings.Builder
	for i := 0; i < len(all); i += 4 {
		some.WriteString(all[i])
	}
	return write(t, "gate.yaml", fmt.Sprintf("version: 1\npriority: low\nreplay: {sets: [%q], weak: smollm2-135m-fewshot, strong: quartet, bootstrap: 100, max_quality_loss: 0.2}\n",
		"weir:"+write(t, "some.jsonl", some.String())))
}

// serveTiny serves a copy of models/tiny.
func serveTiny(t *testing.T, args ...string) *served {
	t.Helper()
	dir := t.TempDir()
	s := &served{
		t: t, listen: freePort(t), admin: freePort(t), logs: &lockedBuffer{},
		live: filepath.Join(dir, "live"), root: filepath.Join(dir, "root"), state: filepath.Join(dir, "state"),
	}
	copyBundle(t, "tiny", s.live)
	require.NoError(t, os.Mkdir(s.root, 0o755))
	s.start(args...)
	return s
}

// start serves from the folders that are there; after stop it is another start.
func (s *served) start(args ...string) {
	t := s.t
	t.Helper()
	args = append([]string{
		"serve", "--bundle", s.live, "--bundle-root", s.root, "--bundle-state", s.state, "--listen", s.listen, "--admin-listen", s.admin,
		"--metrics-listen", "off", "--no-access-log", "--ledger", "memory", "--gate", quickGate(t),
	}, args...)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		ended <- run(ctx, args, world{func(string) string { return "" }, strings.NewReader(""), io.Discard, s.logs})
	})
	s.stop = sync.OnceFunc(func() {
		cancel()
		assert.Equal(t, exitOK, <-ended, "log: %s", s.logs)
		wg.Wait()
	})
	t.Cleanup(s.stop)
	s.client = weirv1.NewRouterServiceClient(dialTest(t, s.listen))
	s.operator = weirv1.NewAdminServiceClient(dialTest(t, s.admin))
	s.ready()
}

func dialTest(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (s *served) ready() {
	s.t.Helper()
	health := healthv1.NewHealthClient(dialTest(s.t, s.listen))
	require.Eventually(s.t, func() bool {
		got, err := health.Check(s.t.Context(), &healthv1.HealthCheckRequest{})
		return err == nil && got.GetStatus() == healthv1.HealthCheckResponse_SERVING
	}, 30*time.Second, 20*time.Millisecond, "log: %s", s.logs)
}

func (s *served) route(text string) *weirv1.Decision {
	s.t.Helper()
	got, err := s.client.Route(s.t.Context(), &weirv1.RouteRequest{Input: &weirv1.RouteRequest_Text{Text: text}})
	require.NoError(s.t, err)
	return got.GetDecision()
}

// promoteNew puts the bundle of that name through every gate, publishes it and returns
// its digest.
func (s *served) promoteNew(name string) string {
	s.t.Helper()
	staged, err := s.operator.StageBundle(s.t.Context(), &weirv1.StageBundleRequest{Name: name})
	require.NoError(s.t, err, "stage %s: %s", name, s.logs)
	digest := staged.GetBundle().GetDigest()
	_, err = s.operator.PromoteBundle(s.t.Context(), &weirv1.PromoteBundleRequest{Digest: digest})
	require.NoError(s.t, err)
	return digest
}

// weir runs a verb against the server.
func (s *served) weir(args ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	return weir(s.t, "", append(args, "--admin", s.admin)...)
}

// logged waits for a line.
func (s *served) logged(text string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return strings.Contains(s.logs.String(), text) }, 30*time.Second, 10*time.Millisecond, "not logged: %s\n%s", text, s.logs)
}

// TestSwapFromTheCommandLine lives the runbook: stage, read the report, promote,
// look, roll back.
func TestSwapFromTheCommandLine(t *testing.T) {
	s := serveTiny(t)
	before := s.route("hello").GetBundleDigest()
	setVersion(t, copyBundle(t, "tiny", filepath.Join(s.root, "two")), "2")
	code, out, stderr := s.weir("model", "stage", "two")
	require.Equal(t, exitOK, code, stderr)
	for _, want := range append(swap.GateNames(), "staged tiny 2 sha256:", "weir model promote sha256:") {
		assert.Contains(t, out, want)
	}
	_, page, _ := strings.Cut(out, "report: ")
	page, _, _ = strings.Cut(page, "\n")
	html, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Contains(t, string(html), "passed every gate")
	assert.FileExists(t, filepath.Join(filepath.Dir(page), "replay.html"))
	_, digest, _ := strings.Cut(out, "weir model promote ")
	digest = strings.TrimSpace(digest)

	assert.Equal(t, before, s.route("hello").GetBundleDigest())
	code, _, stderr = s.weir("model", "promote", "sha256:other")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "not staged")
	code, out, stderr = s.weir("model", "promote", digest)
	require.Equal(t, exitOK, code, stderr)
	assert.Contains(t, out, "tiny 2 serves")
	assert.Equal(t, digest, s.route("hello").GetBundleDigest())
	_, out, _ = s.weir("model", "status")
	assert.Contains(t, out, "watched until")
	start := time.Now()
	_, err = s.operator.RollbackBundle(t.Context(), &weirv1.RollbackBundleRequest{})
	t.Logf("rollback took %s over the wire", time.Since(start))
	require.NoError(t, err)
	assert.Equal(t, before, s.route("hello").GetBundleDigest())
	_, out, _ = s.weir("model", "list")
	assert.Len(t, strings.Split(strings.TrimSpace(out), "\n"), 3)
	code, _, stderr = s.weir("model", "rollback")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "no bundle served before")
	code, _, stderr = s.weir("model", "stage", "../live")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "without separators")

	code, _, stderr = weirChild(t, "model", "diff", bundleDir("tiny"), filepath.Join(s.root, "two"), "--json")
	assert.Equal(t, exitOK, code, stderr)
}

// TestFolderIsReplacedInEveryWay does to the served folder what people and broken
// scripts do. What serves is the last good one throughout.
func TestFolderIsReplacedInEveryWay(t *testing.T) {
	s := serveTiny(t)
	first := s.route("hello").GetBundleDigest()
	still := func(digest, what string) {
		t.Helper()
		assert.Equal(t, digest, s.route("hello").GetBundleDigest(), what)
	}
	// One file by hand, the commonest way: the refusal says what to do.
	shifted := addFloat(t, "quality_high_0_bias", 0.02)(readIn(t, s.live, "fast.onnx"))
	writeIn(t, s.live, "fast.onnx", shifted)
	s.logged("weir model seal " + s.live)
	still(first, "replaced by hand")
	code, out, stderr := weirChild(t, "model", "seal", s.live, "--version", "2")
	require.Equal(t, exitOK, code, stderr)
	assert.Contains(t, out, "fast quality_high")
	s.logged(`msg="bundle promoted" bundle="tiny 2"`)
	second := s.route("hello").GetBundleDigest()
	assert.NotEqual(t, first, second)

	// Written in pieces, ten times a second.
	for i := range 8 {
		writeIn(t, s.live, "fast.onnx", shifted[:1000*i])
		still(second, "mid-write")
		time.Sleep(100 * time.Millisecond)
	}
	s.logged("fast.onnx has 7000 bytes, the manifest says")
	require.NoError(t, os.RemoveAll(s.live))
	s.logged("put the folder back")
	still(second, "deleted")
	// Another version by one rename, then by a link.
	next := setVersion(t, copyBundle(t, "tiny", s.live+"-3"), "3")
	require.NoError(t, os.Rename(next, s.live))
	s.logged(`msg="bundle promoted" bundle="tiny 3"`)
	third := s.route("hello").GetBundleDigest()
	require.NoError(t, os.Chmod(s.live, 0))
	still(third, "no permission")
	require.NoError(t, os.Chmod(s.live, 0o755))
	require.NoError(t, os.RemoveAll(s.live))
	require.NoError(t, os.Symlink(setVersion(t, copyBundle(t, "tiny", s.live+"-4"), "4"), s.live))
	s.logged(`msg="bundle promoted" bundle="tiny 4"`)

	// Over a restart the promoted one serves, and the last good one if need be.
	digest := s.route("hello").GetBundleDigest()
	s.stop()
	require.NoError(t, os.Remove(s.live))
	require.NoError(t, os.Mkdir(s.live, 0o755))
	code, _, stderr = weir(t, "", "serve", "--bundle", s.live, "--bundle-state", s.state, "--listen", "127.0.0.1:bad", "--ledger", "memory")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "serving the last good one")
	assert.Contains(t, stderr, digest)
}

// badBundle is a candidate that must not serve, and the gate that says so.
type badBundle struct {
	name, gate string
	spoil      func(t *testing.T, dir string)
}

func badBundles() []badBundle {
	file := func(name, gate string, spoil func(t *testing.T, dir string)) badBundle {
		return badBundle{name, gate, spoil}
	}
	manifest := func(name, gate string, change func(object)) badBundle {
		return badBundle{name, gate, func(t *testing.T, dir string) { editJSON(t, dir, "manifest.json", change) }}
	}
	graph := func(name, gate string, change func(t *testing.T, model []byte) []byte) badBundle {
		return badBundle{name, gate, func(t *testing.T, dir string) {
			editGraph(t, dir, "fast.onnx", func(model []byte) []byte { return change(t, model) })
		}}
	}
	external := func(name string, location func(dir string) string) badBundle {
		return badBundle{name, swap.GateExternal, func(t *testing.T, dir string) {
			writeIn(t, dir, "weights.bin", make([]byte, 16))
			require.NoError(t, os.Link(filepath.Join(dir, "weights.bin"), filepath.Join(dir, "hard")))
			entry := append(pbBytes(1, []byte("location")), pbBytes(2, []byte(location(dir)))...)
			tensor := append(append(pbInt(2, 1), pbBytes(8, []byte("w"))...), append(pbBytes(13, entry), pbInt(14, 1)...)...)
			editGraph(t, dir, "fast.onnx", func(model []byte) []byte { return inGraph(t, model, pbBytes(5, tensor), nothing) })
		}}
	}
	sealed := func(name, gate string, change func(t *testing.T, dir string)) badBundle {
		return badBundle{name, gate, func(t *testing.T, dir string) {
			change(t, dir)
			code, _, stderr := weirChild(t, "model", "seal", dir)
			require.Equal(t, exitOK, code, stderr)
		}}
	}
	return []badBundle{
		file("no manifest", swap.GateManifest, func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "manifest.json"))) }),
		file("manifest no JSON", swap.GateManifest, func(t *testing.T, dir string) { writeIn(t, dir, "manifest.json", []byte("{")) }),
		manifest("schema of the future", swap.GateManifest, func(m object) { m["schema"] = 2 }),
		manifest("unknown field", swap.GateManifest, func(m object) { m["speed"] = "fast" }),
		manifest("no references", swap.GateManifest, func(m object) { delete(m, "references") }),
		manifest("file by a path", swap.GateManifest, func(m object) { m["files"].(object)["../x"] = m["files"].(object)["fast.onnx"] }),
		manifest("tolerance that proves nothing", swap.GateManifest, func(m object) { lanesOf(m)[0]["tolerance"] = object{"default": 5} }),
		file("truncated", swap.GateDigests, func(t *testing.T, dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, "fast.onnx"), 1000)) }),
		file("one bit", swap.GateDigests, func(t *testing.T, dir string) {
			data := readIn(t, dir, "fast.onnx")
			data[len(data)/2] ^= 1
			writeIn(t, dir, "fast.onnx", data)
		}),
		file("longer", swap.GateDigests, func(t *testing.T, dir string) { writeIn(t, dir, "base.onnx", append(readIn(t, dir, "base.onnx"), 0)) }),
		file("missing graph", swap.GateFolder, func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "fast.onnx"))) }),
		file("symbolic link", swap.GateFolder, func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, "fast.onnx"), filepath.Join(dir, "real.onnx")))
			require.NoError(t, os.Symlink("real.onnx", filepath.Join(dir, "fast.onnx")))
		}),
		external("external data within", func(string) string { return "weights.bin" }),
		external("external data upward", func(string) string { return "../weights.bin" }),
		external("external data absolute", func(dir string) string { return filepath.Join(dir, "weights.bin") }),
		external("external data by a hard link", func(string) string { return "hard" }),
		graph("no ONNX model", swap.GateGraph, func(*testing.T, []byte) []byte { return []byte("not a model at all") }),
		manifest("input of another name", swap.GateGraph, func(m object) { lanesOf(m)[0]["inputs"].(object)["input_ids"] = "ids" }),
		manifest("output of another name", swap.GateGraph, func(m object) {
			lanesOf(m)[0]["outputs"].(object)["quality_high"] = object{"name": "none"}
		}),
		graph("unknown operator", swap.GateGraph, func(_ *testing.T, model []byte) []byte {
			return []byte(strings.ReplaceAll(string(model), "Gemm", "Gexm"))
		}),
		graph("opset 999", swap.GateGraph, func(t *testing.T, model []byte) []byte {
			return mapFields(t, model, func(num protowire.Number, _ []byte) []byte {
				if num != 8 {
					return nil
				}
				return pbBytes(8, pbInt(2, 999))
			})
		}),
		graph("2^60 values", swap.GateGraph, func(t *testing.T, model []byte) []byte {
			return inGraph(t, model, nil, func(num protowire.Number, value []byte) []byte {
				if num != 5 || !strings.Contains(string(value), "ood_mean") {
					return nil
				}
				return pbBytes(5, append([]byte(string(value)), pbInt(1, 1<<60)...))
			})
		}),
		graph("NaN in the weights", swap.GateRange, func(t *testing.T, model []byte) []byte {
			return setFloat(t, "ood_mean", float32(math.NaN()))(model)
		}),
		graph("infinity in the weights", swap.GateRange, func(t *testing.T, model []byte) []byte {
			return setFloat(t, "quality_high_0_bias", float32(math.Inf(1)))(model)
		}),
		graph("right sizes, other weights", swap.GateProbes, otherWeightsOf),
		file("tokenizer of another model", swap.GateTokenizer, func(t *testing.T, dir string) {
			vouch(t, dir, "tokenizer.json", readIn(t, bundleDir("default"), "tokenizer.json"))
		}),
		file("tokenizer that pads", swap.GateTokenizer, func(t *testing.T, dir string) {
			editJSON(t, dir, "tokenizer.json", func(d object) { d["padding"] = object{"strategy": object{"Fixed": 128}} })
		}),
		file("vocabulary in another order", swap.GateTokenizer, func(t *testing.T, dir string) {
			editJSON(t, dir, "tokenizer.json", func(d object) {
				vocab := d["model"].(object)["vocab"].(object)
				vocab["the"], vocab["is"] = vocab["is"], vocab["the"]
			})
		}),
		file("seven probes", swap.GateProbes, func(t *testing.T, dir string) {
			editJSON(t, dir, "probes.json", func(d object) { d["probes"] = d["probes"].([]any)[:7] })
		}),
		file("probes of another bundle", swap.GateProbes, func(t *testing.T, dir string) {
			editJSON(t, dir, "probes.json", func(d object) {
				for _, p := range d["probes"].([]any) {
					p.(object)["lanes"].(object)["base"].(object)["outputs"].(object)["quality_efficient"] = 0.5
				}
			})
		}),
		// From here on manifest and probes vouch for it: only what it does tells.
		sealed("swapped labels", swap.GateReplay, func(t *testing.T, dir string) {
			editJSON(t, dir, "manifest.json", func(m object) {
				for _, lane := range lanesOf(m) {
					o := lane["outputs"].(object)
					o["quality_efficient"], o["quality_high"] = o["quality_high"], o["quality_efficient"]
				}
				delete(m, "cascade")
				delete(m["lanes"].(object), "base")
			})
		}),
		sealed("always strong", swap.GateReplay, func(t *testing.T, dir string) {
			for name, bias := range map[string]string{"fast.onnx": "quality_high_0_bias", "base.onnx": "quality_high_1_bias"} {
				editGraph(t, dir, name, addFloat(t, bias, 20))
			}
		}),
		sealed("other weights, sealed", swap.GateReplay, func(t *testing.T, dir string) {
			for _, name := range []string{"fast.onnx", "base.onnx"} {
				editGraph(t, dir, name, func(model []byte) []byte { return otherWeights(t, model) })
			}
		}),
		sealed("one row of the table, sealed", swap.GateDamage, func(t *testing.T, dir string) {
			editGraph(t, dir, "fast.onnx", func(model []byte) []byte { return oneRow(t, model) })
		}),
		sealed("ten times slower", swap.GateLatency, func(t *testing.T, dir string) {
			editGraph(t, dir, "fast.onnx", busyWork(t, "quality_high", "shape", 12))
		}),
		sealed("base ten times slower", swap.GateLatency, func(t *testing.T, dir string) {
			editGraph(t, dir, "base.onnx", busyWork(t, "quality_high", "output_tokens", 1))
		}),
	}
}

func otherWeightsOf(t *testing.T, model []byte) []byte { return otherWeights(t, model) }

// TestBadBundlesAreRefused stages every bad bundle: each is refused by the right
// gate, and the old one serves.
func TestBadBundlesAreRefused(t *testing.T) {
	s := serveTiny(t)
	before := s.route("hello").GetBundleDigest()
	bad := badBundles()
	require.GreaterOrEqual(t, len(bad), 30)
	for i, b := range bad {
		t.Run(b.name, func(t *testing.T) {
			name := fmt.Sprint("bad-", i)
			if raceDetector && b.gate == swap.GateDamage {
				t.Skip("with the race detector the examining process sees few words")
			}
			b.spoil(t, setVersion(t, copyBundle(t, "tiny", filepath.Join(s.root, name)), name))
			_, err := s.operator.StageBundle(t.Context(), &weirv1.StageBundleRequest{Name: name})
			var gates, details []string
			for _, d := range status.Convert(err).Details() {
				if p, ok := d.(*errdetails.PreconditionFailure); ok {
					for _, v := range p.GetViolations() {
						gates, details = append(gates, v.GetSubject()), append(details, v.GetDescription())
					}
				}
			}
			require.Contains(t, gates, b.gate, "%v %v", err, details)
			assert.Equal(t, before, s.route("hello").GetBundleDigest())
			t.Log(gates, details)
		})
	}
	assert.NotContains(t, s.logs.String(), "bundle promoted")
}
