package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	workers     = 4
	pause       = 4 * time.Millisecond // of a worker between connections
	held        = 40                   // connections that live through the scenario
	heldPause   = 50 * time.Millisecond
	patience    = 10 * time.Second
	stall       = time.Second // as long as a stack waits before it sends a SYN again
	firstPort   = 20000
	workerPorts = 3000
)

// Traffic is what the clients do, and what they saw.
type traffic struct {
	cluster *cluster
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	enough  chan struct{} // closed when the limit of connections is reached

	mu     sync.Mutex
	result Result
	errs   []error
}

// startTraffic makes new connections until the limit, or all the time, and keeps some.
func (c *cluster) startTraffic(ctx context.Context) *traffic {
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{
		cluster: c, cancel: cancel, enough: make(chan struct{}),
		result: Result{Scenario: c.opts.Scenario, PerNode: make(map[string]int)},
	}
	for _, n := range c.nodes {
		t.result.PerNode[n.name] = 0
	}
	for i := range held {
		t.wg.Go(func() { t.hold(ctx, i) })
	}
	var making sync.WaitGroup
	for i := range workers {
		making.Go(func() { t.connectAll(ctx, i) })
	}
	t.wg.Go(func() {
		making.Wait()
		close(t.enough)
	})
	return t
}

// connectAll asks for a page on a new connection each time, IPv4 or IPv6 by worker.
func (t *traffic) connectAll(ctx context.Context, worker int) {
	limit := t.cluster.opts.Connections
	for i := 0; ctx.Err() == nil && (limit == 0 || worker+i*workers < limit); i++ {
		start := time.Now()
		name, err := t.page(ctx, worker%2, firstPort+worker*workerPorts+i%workerPorts)
		if ctx.Err() != nil {
			return
		}
		t.made(name, time.Since(start), err)
		time.Sleep(pause)
	}
}

// made counts a new connection.
func (t *traffic) made(name string, took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Connections++
	if _, known := t.result.PerNode[name]; !known && err == nil {
		err = fmt.Errorf("the page is %q, not the name of a node", name)
	}
	if err != nil {
		t.broken(err)
	} else {
		t.result.PerNode[name]++
	}
	t.waited(took)
}

// waited notes how long an answer took.
func (t *traffic) waited(took time.Duration) {
	t.result.LongestGapMS = max(t.result.LongestGapMS, float64(took.Microseconds())/1000)
	if took > stall {
		t.result.StalledOver1s++
	}
}

func (t *traffic) broken(err error) {
	t.result.Broken++
	if len(t.errs) < 3 {
		t.errs = append(t.errs, err)
	}
}

// page makes a connection, asks for a page and returns the name in it.
func (t *traffic) page(ctx context.Context, family, port int) (string, error) {
	c, err := t.dial(ctx, family, port)
	if err != nil {
		return "", err
	}
	defer c.close()
	return c.get("close")
}

// dial connects from a port of its own, so that the shares are the same in every run. Closing the
// connection resets it: no TIME_WAIT stands in the way of the next one from that port.
func (t *traffic) dial(ctx context.Context, family, from int) (*conn, error) {
	dialer := &net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(clients[family], uint16(from))),
		Timeout:   patience,
	}
	c, err := t.cluster.client.DialFrom(ctx, dialer, "tcp", netip.AddrPortFrom(vips[family], webPort).String())
	if err != nil {
		return nil, err
	}
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		c.Close()
		return nil, err
	}
	// an interruption does not wait for an answer
	stop := context.AfterFunc(ctx, func() { c.Close() })
	return &conn{c, bufio.NewReader(c), func() { stop(); c.Close() }}, nil
}

// A conn speaks HTTP by hand: http.Client would hide a connection that broke behind another try.
type conn struct {
	net.Conn
	answers *bufio.Reader
	close   func()
}

// get fetches the page, which is the name of the node.
func (c *conn) get(connection string) (string, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: demo\r\nConnection: %s\r\n\r\n", connection); err != nil {
		return "", err
	}
	answer, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	return strings.TrimSpace(string(page)), err
}

// hold keeps one connection busy to the end of the scenario.
func (t *traffic) hold(ctx context.Context, i int) {
	err := t.askAgain(ctx, i)
	if ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broken(fmt.Errorf("held connection: %w", err))
}

// askAgain returns why the connection broke.
func (t *traffic) askAgain(ctx context.Context, i int) error {
	c, err := t.dial(ctx, i%2, firstPort-held+i)
	if err != nil {
		return err
	}
	defer c.close()
	for {
		start := time.Now()
		if _, err := c.get("keep-alive"); err != nil {
			return err
		}
		t.mu.Lock()
		t.waited(time.Since(start))
		t.mu.Unlock()
		if err := sleep(ctx, heldPause); err != nil {
			return err
		}
	}
}

// stop ends all connections and returns what was seen.
func (t *traffic) stop() (*Result, []error) {
	t.cancel()
	t.wg.Wait()
	return &t.result, t.errs
}

// shares copies the counts for a picture.
func (t *traffic) shares() (connections, broken int, perNode map[string]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.result.Connections, t.result.Broken, maps.Clone(t.result.PerNode)
}
