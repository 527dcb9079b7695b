package classifier

import (
	"fmt"
	"strings"
)

// Domain is what a prompt is about.
type Domain uint8

// The domains. Their names are spelled the same in manifests, configs, data
// sets and on the wire.
const (
	General Domain = iota + 1
	Coding
	Math
	Science
	Medical
	Legal
	Finance
	Writing
)

// NumDomains is how many domains there are.
const NumDomains = 8

const domainNames = "general coding math science medical legal finance writing"

// Domains returns every domain in order.
func Domains() [NumDomains]Domain {
	return [NumDomains]Domain{General, Coding, Math, Science, Medical, Legal, Finance, Writing}
}

// String returns the domain's name, "domain(N)" for a value that is none.
func (d Domain) String() string {
	if d < General || d > Writing {
		return fmt.Sprintf("domain(%d)", uint8(d))
	}
	return strings.Fields(domainNames)[d-1]
}

// Index is the domain's place in Scores.Domains. It panics for a value that is
// no domain, as indexing does.
func (d Domain) Index() int { return int(d) - 1 }

// ParseDomain returns the domain of that name. The error lists the names.
func ParseDomain(name string) (Domain, error) {
	for i, n := range strings.Fields(domainNames) {
		if n == name {
			return Domain(i + 1), nil
		}
	}
	return 0, fmt.Errorf("domain %q is unknown: use one of %s", name, strings.Join(strings.Fields(domainNames), ", "))
}
