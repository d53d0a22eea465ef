package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "all is well") })
	mux.HandleFunc("/sick", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/slow-body", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "begin")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", 1<<20)+"y") })
	mux.HandleFunc("/drop", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.Host, r.RequestURI, r.Header.Get("X-Check"), r.UserAgent())
	})
	return mux
}

func quiet(s *httptest.Server) *httptest.Server {
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	return s
}

func TestHTTP(t *testing.T) {
	server := quiet(httptest.NewServer(handler()))
	defer server.Close()
	target := addrOf(server.Listener.Addr())
	get := func(path string, body string, status ...StatusRange) Spec {
		s := Spec{Kind: HTTP, HTTP: HTTPSpec{Path: path, Status: status}}
		if body != "" {
			s.HTTP.Body = regexp.MustCompile(body)
		}
		return s
	}
	expectDetail(t, target, get("/ok", ""), true, "status 200")
	expectDetail(t, target, get("", ""), false, "status 404, want 200-299")
	expectDetail(t, target, get("/sick", ""), false, "status 503, want 200-299")
	expectDetail(t, target, get("/sick", "", StatusRange{200, 204}, StatusRange{503, 503}), true, "status 503")
	expectDetail(t, target, get("/ok", "", StatusRange{204, 204}, StatusRange{400, 499}), false, "status 200, want 204, 400-499")
	expectDetail(t, target, get("/moved", ""), false, "status 302, want 200-299")
	expectDetail(t, target, get("/ok", "^all .* well$"), true, "status 200, body matches")
	expectDetail(t, target, get("/ok", "ill"), false, `status 200, body "all is well" does not match "ill"`)
	expectDetail(t, target, get("/hints", ""), true, "status 204")
	expectDetail(t, target, get("/large", "^x+$"), true, "status 200, body matches")
	expectDetail(t, target, get("/large", "y"), false, `status 200, body "`+strings.Repeat("x", 100)+`"... does not match "y"`)
	expectDetail(t, target, get("/drop", ""), false, "response: connection closed")
	expectDetail(t, target, get("ok", ""), false, `path "ok": parse "ok": invalid URI for request`)
	expectDetail(t, closed(t), get("/ok", ""), false, "connect: connection refused")
	expectTimeout(t, target, get("/hang", ""), "response: timeout")
	expectTimeout(t, deaf(t), get("/ok", ""), "connect: timeout")
	expectTimeout(t, target, get("/slow-body", "end"), "status 200, read body: timeout")

	all := Spec{Kind: HTTP, HTTP: HTTPSpec{
		Method: "OPTIONS", Path: "/echo?a=b%20c", Host: "www.example.com", Headers: map[string]string{"X-Check": "yes"},
		Body: regexp.MustCompile(`^OPTIONS www\.example\.com /echo\?a=b%20c yes lbd-check$`),
	}}
	expectDetail(t, target, all, true, "status 200, body matches")
}

// What speaks no HTTP at all shall be told from what refuses.
func TestHTTPFromAServerThatSpeaksSomethingElse(t *testing.T) {
	r := attempt(t, says(t, "SSH-2.0-OpenSSH_9.2\r\n", false), Spec{Kind: HTTP}, 5*time.Second)
	if want := `response: malformed HTTP response "SSH-2.0-OpenSSH_9.2"`; r.OK || r.Detail != want {
		t.Errorf("ok %v, %q", r.OK, r.Detail)
	}
}

func TestTheUsualPortIsNotPartOfTheHost(t *testing.T) {
	for _, c := range []struct {
		target string
		kind   Kind
		want   string
	}{
		{"192.0.2.1:80", HTTP, "192.0.2.1"},
		{"192.0.2.1:443", HTTPS, "192.0.2.1"},
		{"192.0.2.1:443", HTTP, "192.0.2.1:443"},
		{"[2001:db8::1]:80", HTTP, "[2001:db8::1]"},
		{"[2001:db8::1]:8080", HTTP, "[2001:db8::1]:8080"},
		{"[fe80::1%eth0]:80", HTTP, "[fe80::1]"},
	} {
		if got := authority(netip.MustParseAddrPort(c.target), c.kind); got != c.want {
			t.Errorf("%s of %s: %s", c.target, c.kind, got)
		}
	}
}

// An authority signs certificates, as its own file says.
type certAuthority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, validFor time.Duration) *certAuthority {
	t.Helper()
	a := &certAuthority{file: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validFor),
	}
	a.cert, a.key = certify(t, template, nil)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	if err := os.WriteFile(a.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func certify(t *testing.T, template *x509.Certificate, by *certAuthority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = &certAuthority{cert: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// server serves HTTPS with a certificate for web.example.com and 127.0.0.1.
func (a *certAuthority) server(t *testing.T, notBefore, notAfter time.Duration) netip.AddrPort {
	t.Helper()
	cert, key := certify(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "web"},
		DNSNames: []string{"web.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(notBefore), NotAfter: time.Now().Add(notAfter),
	}, a)
	server := quiet(httptest.NewUnstartedServer(handler()))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw, a.cert.Raw}, PrivateKey: key}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return addrOf(server.Listener.Addr())
}

const day = 24 * time.Hour

func TestHTTPSVerifiesTheCertificate(t *testing.T) {
	authority := newAuthority(t, 1000*day)
	target := authority.server(t, -day, 100*day)
	https := func(host string, tls TLSSpec) Spec {
		return Spec{Kind: HTTPS, HTTP: HTTPSpec{Path: "/ok", Host: host}, TLS: tls}
	}
	expectDetail(t, target, https("", TLSSpec{CAFile: authority.file}), true, "status 200")
	expectDetail(t, target, https("web.example.com:8443", TLSSpec{CAFile: authority.file}), true, "status 200")
	expectDetail(t, target, https("other.example.com", TLSSpec{CAFile: authority.file, SNI: "web.example.com"}), true, "status 200")
	expectDetail(t, target, https("other.example.com", TLSSpec{CAFile: authority.file}), false,
		"tls: x509: certificate is valid for web.example.com, not other.example.com")
	expectDetail(t, target, https("", TLSSpec{}), false, "tls: x509: certificate signed by unknown authority")
	expectDetail(t, target, https("", TLSSpec{NoVerify: true}), true, "status 200")
	expectDetail(t, target, https("", TLSSpec{CAFile: "/none.pem"}), false,
		"read authorities: open /none.pem: no such file or directory")
	expectDetail(t, closed(t), https("", TLSSpec{}), false, "connect: connection refused")
	expectTimeout(t, says(t, "", true), https("", TLSSpec{NoVerify: true}), "tls: timeout")
}

func TestTheServerSeesTheNameThatTheCheckSays(t *testing.T) {
	names := make(chan string, 1)
	server := quiet(httptest.NewUnstartedServer(handler()))
	server.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		names <- hello.ServerName
		return nil, nil
	}}
	server.StartTLS()
	defer server.Close()
	for _, c := range []struct{ host, sni, want string }{
		{"", "", ""}, // addresses are no SNI: RFC 6066 section 3
		{"a.example.com", "", "a.example.com"},
		{"a.example.com", "b.example.com", "b.example.com"},
	} {
		for _, kind := range []Kind{HTTPS, TLSExpiry} {
			if kind == TLSExpiry && c.host != "" && c.sni == "" {
				continue // has no host
			}
			spec := Spec{Kind: kind, HTTP: HTTPSpec{Path: "/ok", Host: c.host}, TLS: TLSSpec{NoVerify: true, SNI: c.sni}}
			if r := Probe(context.Background(), addrOf(server.Listener.Addr()), &spec); !r.OK {
				t.Errorf("%+v: %s", c, r.Detail)
			}
			if got := <-names; got != c.want {
				t.Errorf("%s, %+v: %q", kind, c, got)
			}
		}
	}
}

func TestTLSExpiry(t *testing.T) {
	long, short := newAuthority(t, 1000*day), newAuthority(t, 5*day+time.Hour)
	want := func(days int) Spec { return Spec{Kind: TLSExpiry, Days: days} }
	good := long.server(t, -day, 30*day+time.Hour)
	expectDetail(t, good, want(14), true, "certificate expires in 30 days")
	expectDetail(t, good, want(30), true, "certificate expires in 30 days")
	expectDetail(t, good, want(31), false, "certificate expires in 30 days, want 31")
	expectDetail(t, long.server(t, -day, 3*day+time.Hour), want(14), false, "certificate expires in 3 days, want 14")
	expectDetail(t, long.server(t, -day, day+time.Hour), want(14), false, "certificate expires in 1 day, want 14")
	expectDetail(t, long.server(t, -9*day, -2*day-time.Hour), want(0), false, "certificate expired 2 days ago")
	expectDetail(t, short.server(t, -day, 30*day), want(14), false,
		`certificate of authority "Test CA" expires in 5 days, want 14`)
	future := attempt(t, long.server(t, day, 30*day), want(0), 5*time.Second)
	if early := time.Now().Add(day).UTC().Format("certificate is not valid before 2006-01-02"); future.OK || future.Detail[:len(early)] != early {
		t.Errorf("ok %v, %q", future.OK, future.Detail)
	}
	expectDetail(t, closed(t), want(14), false, "connect: connection refused")
	expectDetail(t, says(t, "SSH-2.0-OpenSSH_9.2\r\n", false), want(14), false, "tls: first record does not look like a TLS handshake")
}
