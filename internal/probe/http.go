package probe

import (
	"bufio"
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

const (
	maxBody     = 256 << 10
	maxResponse = maxBody + 64<<10 // with the headers
	maxInterim  = 5
)

// tryHTTP speaks HTTP/1.1 on a connection of its own. A Transport would connect in the background and
// not tell how far it came, and would log what a server says unasked.
func tryHTTP(ctx context.Context, target netip.AddrPort, spec *Spec) (health.Result, error) {
	want := &spec.HTTP
	request, err := newRequest(target, spec)
	if err != nil {
		return health.Result{}, err
	}
	conn, err := connect(ctx, target, spec)
	if err != nil {
		return health.Result{}, err
	}
	defer conn.Close()
	if err := request.Write(conn); err != nil {
		return failed("send: %w", plain(err))
	}
	response, err := readResponse(conn, request)
	if err != nil {
		return failed("response: %w", err)
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

func connect(ctx context.Context, target netip.AddrPort, spec *Spec) (net.Conn, error) {
	if spec.Kind == HTTPS {
		name := cmp.Or(spec.TLS.SNI, hostname(spec.HTTP.Host), target.Addr().String())
		return handshake(ctx, target, spec, name)
	}
	return dial(ctx, target, spec)
}

// readResponse passes over what a server says in between, as 103 Early Hints.
func readResponse(conn net.Conn, request *http.Request) (*http.Response, error) {
	reader := bufio.NewReader(io.LimitReader(conn, maxResponse))
	for range maxInterim {
		response, err := http.ReadResponse(reader, request)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, errors.New("connection closed")
		case err != nil:
			return nil, plain(err)
		case response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols:
			return response, nil
		}
	}
	return nil, fmt.Errorf("more than %d interim responses", maxInterim)
}

func newRequest(target netip.AddrPort, spec *Spec) (*http.Request, error) {
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
	request, err := http.NewRequest(cmp.Or(want.Method, http.MethodGet), where.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	request.Header.Set("User-Agent", "lbd-check") // a header of the check replaces it
	for name, value := range want.Headers {
		request.Header.Set(name, value)
	}
	request.Host = cmp.Or(want.Host, where.Host)
	request.Close = true
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
