package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/lbctl/lbctl/internal/health"
)

const maxBody = 256 << 10

// tryHTTP opens a connection of its own for each request: that a kept one still works says nothing
// about new ones.
func tryHTTP(ctx context.Context, target netip.AddrPort, spec *Spec) (health.Result, error) {
	want := &spec.HTTP
	request, err := newRequest(ctx, target, spec)
	if err != nil {
		return health.Result{}, err
	}
	transport := &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, target) },
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return handshake(ctx, target, &spec.TLS, cmp.Or(spec.TLS.SNI, hostname(want.Host), target.Addr().String()))
		},
	}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request) // a Client would follow redirects
	if err != nil {
		return health.Result{}, plainHTTP(err)
	}
	defer response.Body.Close()
	if !want.accepts(response.StatusCode) {
		return failed("status %d, want %s", response.StatusCode, want.statuses())
	}
	if want.Body == nil {
		return found("status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	switch {
	case want.Body.Match(body):
		return found("status %d, body matches", response.StatusCode)
	case err != nil:
		return failed("status %d, read body: %w", response.StatusCode, plain(err))
	}
	return failed("status %d, body %s does not match %q", response.StatusCode, quote(body), want.Body)
}

func newRequest(ctx context.Context, target netip.AddrPort, spec *Spec) (*http.Request, error) {
	want := &spec.HTTP
	path, err := url.ParseRequestURI(cmp.Or(want.Path, "/"))
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", want.Path, err)
	}
	where := *path
	where.Scheme, where.Host = "http", authority(target, spec.Kind)
	if spec.Kind == HTTPS {
		where.Scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, cmp.Or(want.Method, http.MethodGet), where.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	request.Header.Set("User-Agent", "lbd-check") // a header of the check replaces it
	for name, value := range want.Headers {
		request.Header.Set(name, value)
	}
	request.Host = want.Host
	return request, nil
}

// authority leaves out the usual port, as browsers do: some servers compare it with a list.
func authority(target netip.AddrPort, kind Kind) string {
	host := netip.AddrPortFrom(target.Addr().WithZone(""), target.Port()).String()
	switch kind {
	case HTTP:
		return strings.TrimSuffix(host, ":80")
	case HTTPS:
		return strings.TrimSuffix(host, ":443")
	default:
		return host
	}
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

func (h *HTTPSpec) accepts(status int) bool {
	return slices.ContainsFunc(h.ranges(), func(r StatusRange) bool { return r.First <= status && status <= r.Last })
}

func (h *HTTPSpec) ranges() []StatusRange {
	if len(h.Status) == 0 {
		return []StatusRange{{http.StatusOK, 299}}
	}
	return h.Status
}

func (h *HTTPSpec) statuses() string {
	var list []string
	for _, r := range h.ranges() {
		if r.First == r.Last {
			list = append(list, fmt.Sprint(r.First))
		} else {
			list = append(list, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	return strings.Join(list, ", ")
}

// plainHTTP keeps what dial and handshake said, and says for the rest that it was the server's
// turn.
func plainHTTP(err error) error {
	text := err.Error()
	switch {
	case strings.HasPrefix(text, "connect: "), strings.HasPrefix(text, "tls: "), strings.HasPrefix(text, "read authorities: "):
		return err
	case errors.Is(err, io.EOF):
		return errors.New("response: connection closed")
	}
	return fmt.Errorf("response: %w", plain(err))
}
