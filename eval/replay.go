package eval

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"iter"
	"math"
	"runtime"
	"slices"
	"strconv"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/eval/internal/sealed"
	"github.com/weirhq/weir/router"
)

// outcome is what is sealed of a case until every choice is committed.
type outcome struct {
	weak, strong         float64
	weakCost, strongCost int64 // nano-dollars; -1 where not recorded
}

// rankNames are the rankings of a replay, in the order of replayed.ranks.
func rankNames() []string { return []string{"gain", BaselineLength, BaselineRandom} }

// replayed is a set after one pass: choices committed, outcomes opened.
type replayed struct {
	sample  *Sample
	ranks   [3][]float64
	digests map[string]string
	left    Left
	digest  string
	notes   []string
	singles []Single
}

// replaying is one pass over one set.
type replaying struct {
	src      Source
	weak     string
	strong   string
	splits   []string
	pair     *pair
	scorer   *Scorer
	rankings []ranking
	workers  int
	progress func(done int)

	out     replayed
	domains map[string]uint16
	ids     map[string]struct{}
	sets    []string // the first two that cases name
	vault   sealed.Vault[outcome]
	ledger  *sealed.Ledger
	tally   tally
	hash    hash.Hash
}

const batchRows = 64

// batch is a few cases on their way through the workers, in order.
type batch struct {
	cases    []prepared
	outcomes []outcome
	results  []chosen
	read     int
	done     chan struct{}
}

// prepared is what the workers see of a case.
type prepared struct {
	id, text, domain string
}

// chosen is what the strategies said of a case.
type chosen struct {
	prompt     Prompt
	policy     Choice
	gap        float64
	alphaFirst Choice
	alphaStep  uint8
	ranks      [3]float64
}

// run reads the set once: a reader parts prompts from outcomes, workers score
// and choose, a writer keeps the order and the ledger.
func (r *replaying) run(ctx context.Context) (*replayed, error) {
	r.out.sample = &Sample{Name: r.src.Name, WeakModel: r.weak, StrongModel: r.strong}
	r.domains, r.ids = map[string]uint16{}, map[string]struct{}{}
	r.ledger = sealed.NewLedger(append([]string{"policy", "alpha_sweep"}, rankNames()...)...)
	r.tally.models = map[string]*modelSum{}
	r.hash = sha256.New()
	workers := r.workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	group, gctx := errgroup.WithContext(ctx)
	work, order := make(chan *batch), make(chan *batch, 4*workers)
	group.Go(func() error {
		defer close(work)
		defer close(order)
		return r.read(gctx, order, work)
	})
	for range workers {
		group.Go(func() error {
			for b := range work {
				if err := r.choose(gctx, b); err != nil {
					return err
				}
				close(b.done)
			}
			return nil
		})
	}
	group.Go(func() error { return r.collect(gctx, order) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return r.open()
}

// read parts each case into what may be seen and what is sealed.
func (r *replaying) read(ctx context.Context, to ...chan<- *batch) error {
	b, read := &batch{done: make(chan struct{})}, 0
	send := func() error {
		b.read, b.results = read, make([]chosen, len(b.cases))
		for _, ch := range to {
			select {
			case ch <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		b = &batch{done: make(chan struct{})}
		return nil
	}
	for c, err := range r.src.Cases {
		if err != nil {
			return err
		}
		read++
		if !r.take(&c) {
			continue
		}
		p, o, err := r.part(&c)
		if err != nil {
			return err
		}
		b.cases, b.outcomes = append(b.cases, p), append(b.outcomes, o)
		if len(b.cases) == batchRows {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}

// take tells whether a case is measured, and counts why not.
func (r *replaying) take(c *Case) bool {
	switch {
	case c.Split == SplitOverlap:
		r.out.left.Overlap++
		return false
	case len(r.splits) > 0 && !slices.Contains(r.splits, splitOf(c)):
		r.out.left.Split++
		return false
	}
	_, weak := c.Outcomes[r.weak]
	_, strong := c.Outcomes[r.strong]
	if !weak || !strong {
		r.out.left.Missing++
		return false
	}
	return true
}

func splitOf(c *Case) string {
	if c.Split == "" {
		return SplitEval
	}
	return c.Split
}

func (r *replaying) part(c *Case) (prepared, outcome, error) {
	if _, twice := r.ids[c.ID]; twice {
		return prepared{}, outcome{}, fmt.Errorf("set %s: id %q is there twice: ids are unique", r.src.Name, c.ID)
	}
	r.ids[c.ID] = struct{}{}
	text, err := c.Text()
	if err != nil {
		return prepared{}, outcome{}, fmt.Errorf("set %s: id %q: %w", r.src.Name, c.ID, err)
	}
	if c.Split == SplitTrain {
		r.out.left.Train++
	}
	if c.Note != "" && !slices.Contains(r.out.notes, c.Note) && len(r.out.notes) < 20 {
		r.out.notes = append(r.out.notes, c.Note)
	}
	if len(r.sets) < 2 && !slices.Contains(r.sets, c.Set) {
		if r.sets = append(r.sets, c.Set); len(r.sets) == 2 {
			r.out.notes = append(r.out.notes, fmt.Sprintf("cases of several sets (%q, %q) are mixed in one: name one of them as weir:FILE#SET", r.sets[0], r.sets[1]))
		}
	}
	o := outcome{c.Outcomes[r.weak], c.Outcomes[r.strong], -1, -1}
	if usd, ok := c.CostUSD[r.weak]; ok {
		o.weakCost = nanoUSD(usd)
	}
	if usd, ok := c.CostUSD[r.strong]; ok {
		o.strongCost = nanoUSD(usd)
	}
	r.tally.add(c)
	digestCase(r.hash, c, text)
	return prepared{c.ID, text, c.Domain}, o, nil
}

// digestCase feeds everything that a replay reads of a case to a hash.
func digestCase(h hash.Hash, c *Case, text string) {
	var b []byte
	field := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	for _, s := range [...]string{c.ID, c.Split, text, c.Domain} {
		field(s)
	}
	for _, m := range []map[string]float64{c.Outcomes, c.CostUSD} {
		b = binary.AppendUvarint(b, uint64(len(m)))
		for _, k := range sortedKeys(m) {
			field(k)
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(m[k]))
		}
	}
	h.Write(b) //nolint:errcheck // a hash never fails
}

// choose scores a batch and asks every strategy.
func (r *replaying) choose(ctx context.Context, b *batch) error {
	for i := range b.cases {
		c, out := &b.cases[i], &b.results[i]
		scores, ok, err := r.scorer.Score(ctx, c.text)
		if err != nil {
			return fmt.Errorf("set %s: score id %q: %w", r.src.Name, c.id, err)
		}
		out.prompt = Prompt{ID: c.id, Chars: utf8.RuneCountInString(c.text), Scores: scores, Scored: ok}
		for k, s := range r.rankings {
			out.ranks[k] = s.rank(out.prompt)
		}
		if out.policy, out.gap, err = r.pair.decideGap(&scores, ok, -1); err == nil {
			out.alphaFirst, out.alphaStep, err = r.pair.alphaSwitch(&scores, ok)
		}
		if err != nil {
			return fmt.Errorf("set %s: decide id %q: %w", r.src.Name, c.id, err)
		}
		c.text = ""
	}
	return nil
}

// collect appends the batches to the columns, in the order of the set.
func (r *replaying) collect(ctx context.Context, order <-chan *batch) error {
	for b := range order {
		select {
		case <-b.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for i := range b.results {
			if err := r.append(&b.cases[i], &b.results[i], b.outcomes[i]); err != nil {
				return err
			}
		}
		if r.progress != nil {
			r.progress(b.read)
		}
	}
	return nil
}

func (r *replaying) append(c *prepared, got *chosen, o outcome) error {
	s, p := r.out.sample, &got.prompt
	qe, qh := p.Scores.QEfficient.Value, p.Scores.QHigh.Value
	domain := c.domain
	if !p.Scored {
		qe, qh = 0, 1
		r.out.left.Unscored++
	}
	if domain == "" && p.Scored {
		d, _ := p.Scores.Domain()
		domain = d.String()
	}
	at, ok := r.domains[domain]
	if !ok {
		if len(s.DomainNames) > math.MaxUint16 {
			return fmt.Errorf("set %s has more than %d domains", s.Name, math.MaxUint16)
		}
		at = uint16(len(s.DomainNames))
		r.domains[domain] = at
		s.DomainNames = append(s.DomainNames, domain)
	}
	s.IDs, s.Domain, s.Chars = append(s.IDs, c.id), append(s.Domain, at), append(s.Chars, int32(min(p.Chars, math.MaxInt32)))
	s.QEfficient, s.QHigh = append(s.QEfficient, qe), append(s.QHigh, qh)
	s.Scored, s.Gap, s.Strange = append(s.Scored, p.Scored), append(s.Gap, got.gap), append(s.Strange, p.Scores.OutOfDistribution)
	var predicted classifier.Domain
	if p.Scored {
		predicted, _ = p.Scores.Domain()
	}
	s.Predicted = append(s.Predicted, predicted)
	s.Policy, s.AlphaFirst, s.AlphaStep = append(s.Policy, got.policy), append(s.AlphaFirst, got.alphaFirst), append(s.AlphaStep, got.alphaStep)
	said := []string{got.policy.String(), got.alphaFirst.String() + "/" + strconv.Itoa(int(got.alphaStep))}
	for k := range r.out.ranks {
		r.out.ranks[k] = append(r.out.ranks[k], got.ranks[k])
		said = append(said, strconv.FormatFloat(got.ranks[k], 'x', -1, 64))
	}
	return errors.Join(r.ledger.Add(c.id, said...), r.vault.Put(o))
}

// open commits to the choices and then opens the outcomes.
func (r *replaying) open() (*replayed, error) {
	commitment := r.ledger.Commit()
	rows, err := r.vault.Open(commitment)
	if err != nil {
		return nil, fmt.Errorf("set %s: %w", r.src.Name, err)
	}
	out, s := &r.out, r.out.sample
	s.Gain = out.ranks[0]
	out.digests = commitment.Digests()
	out.digest = "sha256:" + hex.EncodeToString(r.hash.Sum(nil))
	recorded := len(rows) > 0
	s.WeakScore, s.StrongScore = make([]float64, len(rows)), make([]float64, len(rows))
	for i, o := range rows {
		s.WeakScore[i], s.StrongScore[i] = o.weak, o.strong
		recorded = recorded && o.weakCost >= 0 && o.strongCost >= 0
	}
	if recorded {
		s.WeakCost, s.StrongCost = make([]router.NanoUSD, len(rows)), make([]router.NanoUSD, len(rows))
		for i, o := range rows {
			s.WeakCost[i], s.StrongCost[i] = router.NanoUSD(o.weakCost), router.NanoUSD(o.strongCost)
		}
	}
	out.singles = r.tally.singles()
	return out, nil
}

// String is how a choice is spelled in reports and commitments.
func (c Choice) String() string {
	switch c {
	case ChooseWeak:
		return "weak"
	case ChooseStrong:
		return "strong"
	default:
		return fmt.Sprintf("choice(%d)", uint8(c))
	}
}

// tally sums every model's outcomes over the measured cases.
type tally struct {
	models map[string]*modelSum
}

type modelSum struct {
	n, costs int
	quality  float64
	nano     float64
}

func (t *tally) add(c *Case) {
	for m, v := range c.Outcomes {
		s, ok := t.models[m]
		if !ok {
			s = &modelSum{}
			t.models[m] = s
		}
		s.n++
		s.quality += v
		if usd, ok := c.CostUSD[m]; ok {
			s.costs++
			s.nano += float64(nanoUSD(usd))
		}
	}
}

func (t *tally) singles() []Single {
	out := make([]Single, 0, len(t.models))
	for _, m := range sortedKeys(t.models) {
		s := t.models[m]
		one := Single{Model: m, N: s.n, Quality: s.quality / float64(s.n), CostPer1K: unknown()}
		if s.costs == s.n {
			one.CostPer1K = Interval{s.nano / float64(s.n) / 1e6, math.NaN(), math.NaN()}
		}
		out = append(out, one)
	}
	slices.SortStableFunc(out, func(a, b Single) int { return -compareFloat(a.Quality, b.Quality) })
	return out
}

func compareFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

func unknown() Interval { return Interval{math.NaN(), math.NaN(), math.NaN()} }

// findPair names the models of a set that defines none: those given, else the
// only two that the set has, the better one on average as the strong one.
func findPair(cases iter.Seq2[Case, error], set string) (weak, strong string, err error) {
	t := tally{models: map[string]*modelSum{}}
	for c, err := range cases {
		if err != nil {
			return "", "", err
		}
		if c.Split != SplitOverlap {
			t.add(&c)
		}
	}
	singles := t.singles()
	if len(singles) == 2 && singles[0].Quality > singles[1].Quality {
		return singles[1].Model, singles[0].Model, nil
	}
	names := make([]string, 0, 12)
	for i, s := range singles {
		if i == 12 {
			names = append(names, fmt.Sprintf("and %d more", len(singles)-i))
			break
		}
		names = append(names, fmt.Sprintf("%s (%.3f, n %d)", s.Model, s.Quality, s.N))
	}
	return "", "", fmt.Errorf("set %s has %d models: name two of them as weak and strong; best first: %v", set, len(singles), names)
}
