package router

import "fmt"

// maxHint bounds the ids that a hint is looked for: nothing longer is a slip.
const maxHint = 64

// didYouMean is the end of a sentence about an id that is not there: the id of
// those given that it was probably meant to be, or nothing.
func didYouMean(id string, ids func(yield func(string) bool)) string {
	best, at := "", 1+len(id)/4
	if len(id) > maxHint {
		return ""
	}
	for have := range ids {
		if d := distance(id, have, at); d <= at && (best == "" || d < at) {
			best, at = have, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

// distance is how many letters must be changed, added, left out or swapped with
// their neighbour to make one of two texts of the other; more than most where it
// is more.
func distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			same := 1
			if a[i-1] == b[j-1] {
				same = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+same)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}

// hints says what of the provider rules names nothing of this config.
func (r *Rules) hints(p *ProviderRules) []string {
	known := func(yield func(string) bool) {
		for _, u := range r.Upstreams {
			if !yield(u.ID) {
				return
			}
		}
	}
	var out []string
	for _, list := range [][]string{p.Only, p.Order, p.Ignore} {
	ids:
		for _, id := range list {
			for have := range known {
				if have == id {
					continue ids
				}
			}
			out = append(out, fmt.Sprintf("provider %.*q is no upstream of this config%s", maxHint, id, didYouMean(id, known)))
		}
	}
	return out
}

// modelIDs are the catalog's ids in its order.
func (c *Catalog) modelIDs(yield func(string) bool) {
	for _, m := range c.models {
		if !yield(m.ID) {
			return
		}
	}
}
