package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// certs are an authority, the server's certificate and a client's.
type certs struct {
	ca, cert, key string // files
	pool          *x509.CertPool
	client        tls.Certificate
}

func newCerts(t *testing.T) certs {
	t.Helper()
	caKey, ca := selfSigned(t)
	dir := t.TempDir()
	c := certs{ca: filepath.Join(dir, "ca.pem"), cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), pool: x509.NewCertPool()}
	c.pool.AddCert(ca)
	require.NoError(t, os.WriteFile(c.ca, pemOf("CERTIFICATE", ca.Raw), 0o600))
	c.issue(t, caKey, ca)
	clientPEM, clientKey := signed(t, caKey, ca, x509.ExtKeyUsageClientAuth)
	var err error
	c.client, err = tls.X509KeyPair(clientPEM, clientKey)
	require.NoError(t, err)
	return c
}

func (c *certs) issue(t *testing.T, caKey *ecdsa.PrivateKey, ca *x509.Certificate) {
	t.Helper()
	cert, key := signed(t, caKey, ca, x509.ExtKeyUsageServerAuth)
	require.NoError(t, os.WriteFile(c.cert, cert, 0o600))
	require.NoError(t, os.WriteFile(c.key, key, 0o600))
}

func selfSigned(t *testing.T) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	ca, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return key, ca
}

func signed(t *testing.T, caKey *ecdsa.PrivateKey, ca *x509.Certificate, use x509.ExtKeyUsage) (cert, key []byte) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: serial, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{use}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca, &own.PublicKey, caKey)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(own)
	require.NoError(t, err)
	return pemOf("CERTIFICATE", der), pemOf("PRIVATE KEY", raw)
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func tlsDial(c *tls.Config) grpc.DialOption {
	return grpc.WithTransportCredentials(credentials.NewTLS(c))
}

func TestMutualTLS(t *testing.T) {
	ours, other := newCerts(t), newCerts(t)
	w := newWorld(t, func(w *world) { w.cfg.TLS = TLS{CertFile: ours.cert, KeyFile: ours.key, ClientCAFile: ours.ca} }).run()
	route := func(opts ...grpc.DialOption) error {
		_, err := w.client(opts...).Route(t.Context(), textRequest("hi"))
		return err
	}
	require.NoError(t, route(tlsDial(&tls.Config{RootCAs: ours.pool, Certificates: []tls.Certificate{ours.client}})))
	assert.Equal(t, codes.Unavailable, status.Code(route(tlsDial(&tls.Config{RootCAs: ours.pool}))), "no certificate")
	assert.Equal(t, codes.Unavailable, status.Code(route(tlsDial(&tls.Config{RootCAs: ours.pool, Certificates: []tls.Certificate{other.client}}))), "another authority's")
	assert.Equal(t, codes.Unavailable, status.Code(route()), "clear text")
	old := &tls.Config{RootCAs: ours.pool, Certificates: []tls.Certificate{ours.client}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10} //nolint:gosec // what must be refused
	assert.Equal(t, codes.Unavailable, status.Code(route(tlsDial(old))), "TLS 1.1")
}

func TestTLSFilesAreReadAgain(t *testing.T) {
	caKey, ca := selfSigned(t)
	c := newCerts(t)
	require.NoError(t, os.WriteFile(c.ca, pemOf("CERTIFICATE", ca.Raw), 0o600))
	c.issue(t, caKey, ca)
	log := &syncBuffer{}
	f, err := openTLSFiles(TLS{CertFile: c.cert, KeyFile: c.key, ClientCAFile: c.ca}, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	now := time.Now()
	at := func() *tls.Config { now = now.Add(recheck); return f.fresh(now) }
	first := at()
	assert.Same(t, first, at(), "unchanged files are not read again")

	touch := func() { // a new time stamp, whatever the file system's resolution
		now := time.Now().Add(time.Duration(len(log.String())+1) * time.Second)
		for _, name := range []string{c.cert, c.key, c.ca} {
			require.NoError(t, os.Chtimes(name, now, now))
		}
	}
	c.issue(t, caKey, ca)
	touch()
	second := at()
	assert.NotEqual(t, first.Certificates[0].Certificate, second.Certificates[0].Certificate)

	require.NoError(t, os.WriteFile(c.ca, nil, 0o600))
	touch()
	kept := at()
	assert.Same(t, second, kept, "an empty authority file admits nobody new: the last good one holds")
	assert.Equal(t, tls.RequireAndVerifyClientCert, kept.ClientAuth)
	assert.Contains(t, log.String(), "holds no certificate")
	require.NoError(t, os.Remove(c.ca))
	assert.Same(t, second, at())
}

func withToken(ctx context.Context, header string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", header)
}

func TestBearerTokens(t *testing.T) {
	const token, second = "0123456789abcdef", "fedcba9876543210-second"
	file := writeFile(t, "tokens", token+"\n# comment-comment-comment\n\n"+second+"\r\n")
	w := newWorld(t, func(w *world) { w.cfg.TokenFile = file }).run()
	c := w.client()
	tests := []struct {
		name   string
		header []string
		reason string // "" when admitted
	}{
		{"first", []string{"Bearer " + token}, ""},
		{"second", []string{"Bearer " + second}, ""},
		{"scheme in lower case", []string{"bearer " + token}, ""},
		{"none", nil, "TOKEN_MISSING"},
		{"empty", []string{""}, "TOKEN_INVALID"},
		{"no scheme", []string{token}, "TOKEN_INVALID"},
		{"another scheme", []string{"Basic " + token}, "TOKEN_INVALID"},
		{"empty token", []string{"Bearer "}, "TOKEN_INVALID"},
		{"a prefix", []string{"Bearer " + token[:15]}, "TOKEN_INVALID"},
		{"one more", []string{"Bearer " + token + "0"}, "TOKEN_INVALID"},
		{"a comment", []string{"Bearer # comment-comment-comment"}, "TOKEN_INVALID"},
		{"both tokens", []string{"Bearer " + token + " " + second}, "TOKEN_INVALID"},
		{"two headers", []string{"Bearer " + token, "Bearer " + token}, "TOKEN_INVALID"},
		{"very long", []string{"Bearer " + strings.Repeat("x", 10_000)}, "TOKEN_INVALID"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := t.Context()
			for _, h := range tt.header {
				ctx = withToken(ctx, h)
			}
			_, err := c.Route(ctx, textRequest("hi"))
			if tt.reason == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, codes.Unauthenticated, status.Code(err))
			assert.Equal(t, tt.reason, detailsIn(t, status.Convert(err)).info.GetReason())
		})
	}
	stream, err := c.Complete(t.Context(), &weirv1.CompleteRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	assert.Equal(t, codes.Unauthenticated, status.Code(err), "streams too")
	info, err := reflectv1.NewServerReflectionClient(w.dial(w.addrs.Listen)).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	_, err = info.Recv()
	assert.Equal(t, codes.Unauthenticated, status.Code(err), "reflection too")
	_, err = healthv1.NewHealthClient(w.dial(w.addrs.Listen)).Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err, "probes have no token")
	_, err = w.admin().GetBundle(t.Context(), &weirv1.GetBundleRequest{})
	require.NoError(t, err, "the admin listener is local")
	require.NoError(t, w.stop())
	assert.NotContains(t, w.log.String(), token)
}

func TestTokenFileIsReadAgain(t *testing.T) {
	const first, second = "first-0123456789", "second-0123456789"
	file := writeFile(t, "tokens", first)
	log := &syncBuffer{}
	f, err := openTokenFile(file, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	now := time.Now()
	write := func(text string) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		now = now.Add(recheck)
		require.NoError(t, os.Chtimes(file, now, now))
	}
	assert.True(t, f.admits(first, now))
	write(second)
	assert.False(t, f.admits(first, now), "a token that is gone")
	assert.True(t, f.admits(second, now))
	write(first + "\nshort")
	assert.True(t, f.admits(second, now), "a faulty file leaves the last tokens")
	assert.False(t, f.admits(first, now))
	assert.Contains(t, log.String(), "line 2")
	write("")
	assert.False(t, f.admits(second, now), "an emptied file admits nobody")
	assert.NotContains(t, log.String(), "0123456789", "no token is logged")
}
