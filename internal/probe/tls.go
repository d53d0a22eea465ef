package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/lbctl/lbctl/internal/health"
)

// handshake connects and speaks TLS. The certificate must be valid for name, which is also sent
// as SNI unless it is an address.
func handshake(ctx context.Context, target netip.AddrPort, spec *Spec, name string) (*tls.Conn, error) {
	config := &tls.Config{ServerName: name, InsecureSkipVerify: spec.TLS.NoVerify}
	if spec.TLS.CAFile != "" && !spec.TLS.NoVerify {
		pem, err := os.ReadFile(spec.TLS.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read authorities: no certificate in %s", spec.TLS.CAFile)
		}
	}
	conn, err := dial(ctx, target, spec)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("tls: %w", plainTLS(err))
	}
	return secure, nil
}

// plainTLS leaves the alert, or what is wrong with the certificate.
func plainTLS(err error) error {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[tls.AlertError](err); ok {
		return errors.New(strings.TrimPrefix(e.Error(), "tls: "))
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" {
		return errors.New("remote error: " + strings.TrimPrefix(e.Err.Error(), "tls: "))
	}
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return errors.New(e.Msg)
	}
	return plain(err)
}

// tryTLSExpiry takes any certificate: an expired one shall be told by its age.
func tryTLSExpiry(ctx context.Context, target netip.AddrPort, spec *Spec) (health.Result, error) {
	any := *spec
	any.TLS.NoVerify = true
	conn, err := handshake(ctx, target, &any, cmp.Or(spec.TLS.SNI, target.Addr().String()))
	if err != nil {
		return health.Result{}, err
	}
	defer conn.Close()
	return expiry(conn.ConnectionState().PeerCertificates, spec.Days, time.Now())
}

// expiry looks at all certificates that the server sent: the first to expire breaks the chain.
func expiry(chain []*x509.Certificate, want int, now time.Time) (health.Result, error) {
	if len(chain) == 0 {
		return failed("no certificate")
	}
	first := chain[0]
	for _, cert := range chain {
		if cert.NotBefore.After(now) {
			return failed("%s is not valid before %s", certName(chain, cert), cert.NotBefore.UTC().Format(time.RFC3339))
		}
		if cert.NotAfter.Before(first.NotAfter) {
			first = cert
		}
	}
	left := first.NotAfter.Sub(now)
	name := certName(chain, first)
	switch {
	case left < 0:
		return failed("%s expired %s ago", name, days(-left))
	case left < time.Duration(want)*24*time.Hour:
		return failed("%s expires in %s, want %d", name, days(left), want)
	}
	return found("%s expires in %s", name, days(left))
}

func certName(chain []*x509.Certificate, cert *x509.Certificate) string {
	if cert == chain[0] {
		return "certificate"
	}
	return fmt.Sprintf("certificate of authority %q", cert.Subject.CommonName)
}

// days rounds down: what is valid for 1.9 days is to be renewed tomorrow.
func days(d time.Duration) string {
	switch n := int(d / (24 * time.Hour)); n {
	case 0:
		return d.Truncate(time.Minute).String()
	case 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}
