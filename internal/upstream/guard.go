package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// errAddressRefused is the cause of a dial that the guard stopped.
var errAddressRefused = errors.New("the address is refused")

// guard dials, and looks at every address after DNS and before a connection.
type guard struct {
	timeout time.Duration
	// all is whether every host may resolve to a private address, proxy the one
	// host that may in any case.
	all     bool
	proxy   string
	never   []netip.Prefix
	private []netip.Prefix
}

func newGuard(r road, proxy *url.URL) *guard {
	g := &guard{timeout: r.connect, all: r.allowPrivate}
	if proxy != nil {
		g.proxy = canonicalHost(proxy.Hostname())
	}
	g.never = prefixes(
		"169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8", "0.0.0.0/8", "::/128", "255.255.255.255/32",
		"100.100.100.200/32", "192.0.0.192/32", "fd00:ec2::/32", "168.63.129.16/32", // metadata of Alibaba, Oracle, AWS and Azure
	)
	g.private = prefixes(
		"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24",
		"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::1/128", "fc00::/7", "fec0::/10", "100::/64", "2001::/32", "2001:db8::/32", "2002::/16",
	)
	return g
}

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

func canonicalHost(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// privateName tells names that no public DNS answers for: they may resolve to
// private addresses. It is asked of hosts of base URLs, which come from the
// config alone.
func privateName(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return true
	}
	if !strings.Contains(host, ".") {
		return true
	}
	return slices.ContainsFunc([]string{".internal", ".local", ".localhost", ".home.arpa", ".lan", ".svc"},
		func(suffix string) bool { return strings.HasSuffix(host, suffix) })
}

// dialer dials with a resolver; nil means the system's.
func (g *guard) dialer(resolver *net.Resolver) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("dial: %w", err)
		}
		host = canonicalHost(host)
		private := g.all || privateName(host) || host == g.proxy
		d := net.Dialer{
			Timeout: g.timeout, KeepAlive: 30 * time.Second, Resolver: resolver,
			ControlContext: func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
				return g.check(resolved, private)
			},
		}
		return d.DialContext(ctx, network, address)
	}
}

// check refuses a resolved address that a base URL must not lead to.
func (g *guard) check(resolved string, private bool) error {
	ap, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return fmt.Errorf("%w: it does not parse", errAddressRefused)
	}
	for _, ip := range embedded(ap.Addr().Unmap().WithZone("")) {
		within := func(p netip.Prefix) bool { return p.Contains(ip) }
		if slices.ContainsFunc(g.never, within) {
			return fmt.Errorf("%w: the host resolves to a link-local, metadata, multicast or unspecified address", errAddressRefused)
		}
		if !private && slices.ContainsFunc(g.private, within) {
			return fmt.Errorf("%w: a public name resolves to a private address; write allow_private: true to its upstream if that is meant", errAddressRefused)
		}
	}
	return nil
}

// embedded returns the address and the IPv4 address that it stands for where it
// is a translated one (NAT64, 6to4, IPv4-compatible).
func embedded(ip netip.Addr) []netip.Addr {
	out := []netip.Addr{ip}
	if !ip.Is6() {
		return out
	}
	b := ip.As16()
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(ip), netip.MustParsePrefix("::/96").Contains(ip) && !ip.IsLoopback():
		return append(out, netip.AddrFrom4([4]byte(b[12:16])))
	case netip.MustParsePrefix("2002::/16").Contains(ip):
		return append(out, netip.AddrFrom4([4]byte(b[2:6])))
	default:
		return out
	}
}
