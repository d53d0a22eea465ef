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
	newEvery  = 4 * time.Millisecond // a new connection, whatever becomes of those before
	newAtOnce = 1000                 // that wait for an answer; more than patience is long
	held      = 40                   // connections that live through the scenario
	heldPause = 100 * time.Millisecond
	patience  = 10 * time.Second
	stall     = time.Second // as long as a stack waits before it sends a SYN again
	firstPort = 20000
	newPorts  = 12000 // of each family
)

// Traffic is what the clients do, and what they saw.
type traffic struct {
	cluster  *cluster
	observer *observer
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	enough   chan struct{} // closed when the limit of connections is reached

	mu       sync.Mutex
	dead     string // the node whose connections may break
	result   Result
	troubles []string // the first few, for people
}

// startTraffic makes new connections until the limit, or all the time, and keeps some.
func (c *cluster) startTraffic(ctx context.Context, o *observer) *traffic {
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{
		cluster: c, observer: o, cancel: cancel, enough: make(chan struct{}),
		result: Result{Scenario: c.opts.Scenario, PerNode: make(map[string]int)},
	}
	for _, n := range c.servers() {
		t.result.PerNode[n.name] = 0
	}
	for i := range held {
		t.wg.Go(func() { t.hold(ctx, flow{i % 2, firstPort - held + i}) })
	}
	t.wg.Go(func() {
		defer close(t.enough)
		t.connectAll(ctx)
	})
	return t
}

// connectAll asks for a page on a new connection each time, over IPv4 and IPv6 in turn.
func (t *traffic) connectAll(ctx context.Context) {
	var making sync.WaitGroup
	defer making.Wait()
	limit := t.cluster.opts.Connections
	places := make(chan struct{}, newAtOnce)
	tick := time.NewTicker(newEvery)
	defer tick.Stop()
	for i := 0; limit == 0 || i < limit; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		places <- struct{}{}
		making.Go(func() {
			defer func() { <-places }()
			t.connect(ctx, flow{i % 2, firstPort + i/2%newPorts})
		})
	}
}

// connect makes a new connection and counts it.
func (t *traffic) connect(ctx context.Context, f flow) {
	start := time.Now()
	name, err := t.page(ctx, f, patience)
	took := time.Since(start)
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		if took > stall { // when the scenario ended
			t.waited(f, took)
		}
		return
	}
	t.result.Connections++
	if _, known := t.result.PerNode[name]; !known && err == nil {
		err = fmt.Errorf("the page is %q, not the name of a node", name)
	}
	if err != nil {
		t.ended(f, err)
		return
	}
	t.result.PerNode[name]++
	t.waited(f, took)
}

// waited notes how long an answer took.
func (t *traffic) waited(f flow, took time.Duration) {
	t.result.LongestGapMS = max(t.result.LongestGapMS, float64(took.Microseconds())/1000)
	if took > stall {
		t.result.StalledOver1s++
		if t.dead == "" {
			t.trouble("slow: an answer to %s port %d took %d ms, at %s", clients[f.family], f.port, took.Milliseconds(), t.observer.who(f))
		}
	}
}

// trouble keeps the first few texts; with more, nobody would read them.
func (t *traffic) trouble(format string, args ...any) {
	if len(t.troubles) < 6 {
		t.troubles = append(t.troubles, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

// ended counts a connection that broke, and says whether that was because its node died.
func (t *traffic) ended(f flow, err error) (died bool) {
	node := t.observer.who(f)
	if t.dead != "" && node == t.dead {
		t.result.DiedWithNode++
		return true
	}
	t.result.Broken++
	t.trouble("broken: %v, at %s", err, node)
	return false
}

// strike says that from now on connections of a node may break.
func (t *traffic) strike(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead = node
}

// fail notes what is wrong besides what clients see.
func (t *traffic) fail(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.wrong = append(t.result.wrong, fmt.Sprintf(format, args...))
}

// tookOver notes how long nobody answered for a node.
func (t *traffic) tookOver(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.TakeoverMS = float64(d.Microseconds()) / 1000
}

// losses are what the node cost that went.
func (t *traffic) losses() (takeoverMS float64, died int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.result.TakeoverMS, t.result.DiedWithNode
}

// page makes a connection, asks for a page and returns the name in it.
func (t *traffic) page(ctx context.Context, f flow, patience time.Duration) (string, error) {
	c, err := t.dial(ctx, f, patience)
	if err != nil {
		return "", err
	}
	defer c.close()
	return c.get("close")
}

// dial connects from a port of its own, so that the shares are the same in every run. Closing the
// connection resets it: no TIME_WAIT stands in the way of the next one from that port.
func (t *traffic) dial(ctx context.Context, f flow, patience time.Duration) (*conn, error) {
	dialer := &net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(clients[f.family], uint16(f.port))),
		Timeout:   patience,
	}
	c, err := t.cluster.client.DialFrom(ctx, dialer, "tcp", netip.AddrPortFrom(vips[f.family], webPort).String())
	if err != nil {
		return nil, err
	}
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		c.Close()
		return nil, err
	}
	// an interruption does not wait for an answer
	stop := context.AfterFunc(ctx, func() { c.Close() })
	return &conn{c, bufio.NewReader(c), patience, func() { stop(); c.Close() }}, nil
}

// A conn speaks HTTP by hand: http.Client would hide a connection that broke behind another try.
type conn struct {
	net.Conn
	answers  *bufio.Reader
	patience time.Duration // for an answer
	close    func()
}

// get fetches the page, which is the name of the node.
func (c *conn) get(connection string) (string, error) {
	if err := c.SetDeadline(time.Now().Add(c.patience)); err != nil {
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

// hold keeps one connection busy to the end of the scenario, and another one when its node died.
func (t *traffic) hold(ctx context.Context, f flow) {
	for again := true; again; {
		err := t.askAgain(ctx, f)
		if ctx.Err() != nil {
			return
		}
		t.mu.Lock()
		again = t.ended(f, fmt.Errorf("held connection: %w", err))
		t.mu.Unlock()
	}
}

// askAgain returns why the connection broke.
func (t *traffic) askAgain(ctx context.Context, f flow) error {
	c, err := t.dial(ctx, f, patience)
	if err != nil {
		return err
	}
	defer c.close()
	for {
		start := time.Now()
		_, err := c.get("keep-alive")
		took := time.Since(start)
		t.mu.Lock()
		if err == nil || ctx.Err() != nil && took > stall {
			t.waited(f, took)
		}
		t.mu.Unlock()
		if err != nil {
			return err
		}
		if err := sleep(ctx, heldPause); err != nil {
			return err
		}
	}
}

// stop ends all connections and returns what was seen.
func (t *traffic) stop() (result *Result, troubles []string) {
	t.cancel()
	t.wg.Wait()
	return &t.result, t.troubles
}

// shares copies the counts for a picture.
func (t *traffic) shares() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return counts{time.Now(), t.result.Connections, t.result.Broken, maps.Clone(t.result.PerNode)}
}

// counts are what the clients have seen at a time.
type counts struct {
	at                  time.Time
	connections, broken int
	perNode             map[string]int
}
