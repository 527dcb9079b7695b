//go:build native && cgo && linux

package onnx

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
)

// mutantsEnv tells the child process of TestMutants which mutants to open: "from,to".
const mutantsEnv = "WEIR_TEST_MUTANTS"

// TestMutants opens randomly damaged graphs whose digest the manifest vouches for, in
// a child process, which one of them may end. None may be accepted and score
// otherwise than the true one. The digest is what stands in front of this.
func TestMutants(t *testing.T) {
	if raceEnabled {
		t.Skip("the child's memory is bounded, which the race detector does not take")
	}
	if spec := os.Getenv(mutantsEnv); spec != "" {
		openMutants(t, spec)
		return
	}
	total := 150
	if campaign() {
		total = 4000
	}
	deaths, accepted, next := 0, 0, 0
	for next < total {
		cmd := exec.Command(os.Args[0], "-test.run=^TestMutants$", "-test.v") //nolint:gosec // this very test
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d,%d", mutantsEnv, next, total))
		out, err := cmd.Output()
		lines := bufio.NewScanner(strings.NewReader(string(out)))
		for lines.Scan() {
			switch number, verdict, _ := strings.Cut(lines.Text(), " "); verdict {
			case "opening":
				at, err := strconv.Atoi(number)
				require.NoError(t, err)
				next = at + 1
			case "accepted":
				accepted++
			case "accepted, but scores differ":
				t.Errorf("mutant %s was accepted and scores differ", number)
			}
		}
		if err != nil {
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.NotEqual(t, 1, exit.ExitCode(), "the child failed as a test: %s", out)
			deaths++
			require.Less(t, deaths, total/10+1, "most mutants kill the process")
		}
	}
	t.Logf("%d mutants: %d opened with the same scores, %d ended their process, the rest was refused", total, accepted, deaths)
}

// openMutants is the child's part.
func openMutants(t *testing.T, spec string) {
	t.Helper()
	const most = 16 << 30 // of address space: a mutant may ask for any amount
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: most, Max: most}))
	var from, to int
	_, err := fmt.Sscanf(spec, "%d,%d", &from, &to)
	require.NoError(t, err)
	truth := open(t, bundleDir("tiny"), Config{})
	dir := tinyCopy(t)
	original := readTest(t, dir, "fast.onnx")
	for i := from; i < to; i++ {
		fmt.Printf("%d opening\n", i)
		swap(t, dir, "fast.onnx", mutate(original, uint64(i)))
		b, err := shared.Open(t.Context(), dir, Config{})
		if err != nil {
			continue
		}
		verdict := "accepted"
		if errors.Is(compareScores(t, truth, b), errDiffer) {
			verdict = "accepted, but scores differ"
		}
		fmt.Printf("%d %s\n", i, verdict)
		assert.NoError(t, b.Close())
	}
}

// mutate changes one to four places: bits, bytes, numbers, cuts and copies.
func mutate(original []byte, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 26))
	data := append([]byte(nil), original...)
	for range 1 + r.IntN(4) {
		at := r.IntN(len(data))
		switch r.IntN(5) {
		case 0:
			data[at] ^= 1 << r.IntN(8)
		case 1:
			data[at] = byte(r.IntN(256))
		case 2:
			data[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[r.IntN(5)]
		case 3:
			data = append(data[:at], data[min(at+1+r.IntN(8), len(data)):]...)
		default:
			end := min(at+1+r.IntN(16), len(data))
			data = append(data[:end], append(append([]byte(nil), data[at:end]...), data[end:]...)...)
		}
	}
	return data
}

var errDiffer = errors.New("scores differ")

// compareScores asks both bundles what no probe asks.
func compareScores(t *testing.T, truth, other *Bundle) error {
	t.Helper()
	for _, text := range []string{
		"hello", "prove that the sum of two odd numbers is even", "func main() { return 7 }",
		"my landlord keeps the deposit", strings.Repeat("read this log and find the fault ", 30),
	} {
		shape := classifier.Shape(text)
		want, err := asked{truth.fast, shape[:]}.Classify(t.Context(), text)
		require.NoError(t, err)
		got, err := asked{other.fast, shape[:]}.Classify(t.Context(), text)
		if err != nil || math.Abs(got.QEfficient.Value-want.QEfficient.Value) > 1e-3 || math.Abs(got.QHigh.Value-want.QHigh.Value) > 1e-3 {
			return fmt.Errorf("%w: %v", errDiffer, err)
		}
	}
	return nil
}
