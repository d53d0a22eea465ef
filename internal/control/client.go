package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// ErrUnreachable says that nobody answers on the socket, or that we may not ask.
var ErrUnreachable = errors.New("lbd is not reachable")

// requestTime is how long a daemon may take to answer. Only one that hangs takes as long.
const requestTime = 30 * time.Second

// A Client asks a running daemon. Its methods return *Error for what the daemon refuses, and
// ErrUnreachable when it went away.
type Client struct{ http http.Client }

// Dial returns a client of the daemon on a socket, or ErrUnreachable. Every request makes a
// connection of its own, so there is nothing to close.
func Dial(path string) (*Client, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	conn.Close()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", path)
		},
	}
	return &Client{http: http.Client{Transport: transport, Timeout: requestTime}}, nil
}

// Status asks for the daemon's status.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return ask[*Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// Config asks for the configuration in force, as YAML with all defaults filled in. Its seed is shown
// to root alone; without it there is config.HiddenSeed.
func (c *Client) Config(ctx context.Context, seed bool) ([]byte, error) {
	path := "/v1/config"
	if seed {
		path += "?" + seedParameter
	}
	return c.get(ctx, http.MethodGet, path, nil)
}

// Diff asks what a candidate file would change.
func (c *Client) Diff(ctx context.Context, candidate []byte) (ConfigDiff, error) {
	return ask[ConfigDiff](ctx, c, http.MethodPost, "/v1/config/diff", candidate)
}

// Reload makes the daemon read its file again.
func (c *Client) Reload(ctx context.Context) (*ReloadResult, error) {
	return ask[*ReloadResult](ctx, c, http.MethodPost, "/v1/config/reload", nil)
}

// Admin asks for a change of what operators decide about a node.
func (c *Client) Admin(ctx context.Context, request AdminRequest) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	_, err = c.get(ctx, http.MethodPost, "/v1/nodes", body)
	return err
}

// RotateKeys asks for another key of the cluster. Only root may.
func (c *Client) RotateKeys(ctx context.Context, request KeysRequest) (*KeyRotation, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	return ask[*KeyRotation](ctx, c, http.MethodPost, "/v1/keys", body)
}

// Events asks for what happened after the event of that number, oldest first.
func (c *Client) Events(ctx context.Context, after uint64) ([]Event, error) {
	return ask[[]Event](ctx, c, http.MethodGet, fmt.Sprintf("/v1/events?after=%d", after), nil)
}

func ask[T any](ctx context.Context, c *Client, method, path string, body []byte) (T, error) {
	var result T
	answer, err := c.get(ctx, method, path, body)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(answer, &result); err != nil {
		return result, fmt.Errorf("%s: understand lbd's answer: %w", path, err)
	}
	return result, nil
}

func (c *Client) get(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	// the host is for HTTP's sake; the transport knows the socket
	request, err := http.NewRequestWithContext(ctx, method, "http://lbd"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if outer, ok := errors.AsType[*url.Error](err); ok {
			err = outer.Err // without the address that is for HTTP's sake
		}
		return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, path, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: read lbd's answer: %w", path, err)
	}
	if response.StatusCode == http.StatusOK {
		return answer, nil
	}
	refused := &Error{Code: response.StatusCode}
	if err := json.Unmarshal(answer, refused); err != nil || refused.Message == "" {
		refused.Message = fmt.Sprintf("%s: lbd answers %s", path, response.Status)
	}
	return nil, refused
}
