package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	workers     = 4
	pause       = 4 * time.Millisecond // of a worker between connections
	held        = 40                   // connections that live through the scenario
	heldPause   = 20 * time.Millisecond
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

	mu     sync.Mutex
	result Result
	errs   []error
}

// start makes new connections all the time and keeps some.
func (c *cluster) start(ctx context.Context) *traffic {
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{cluster: c, cancel: cancel, result: Result{Scenario: c.opts.Scenario, PerNode: make(map[string]int)}}
	for _, n := range c.nodes {
		t.result.PerNode[n.name] = 0
	}
	for i := range workers {
		t.wg.Go(func() { t.connectAll(ctx, i) })
	}
	for i := range held {
		t.wg.Go(func() { t.hold(ctx, i) })
	}
	return t
}

// connectAll asks for a page on a new connection each time, IPv4 or IPv6 by worker.
func (t *traffic) connectAll(ctx context.Context, worker int) {
	for i := 0; ctx.Err() == nil; i++ {
		name, took, err := t.page(ctx, worker%2, firstPort+worker*workerPorts+i%workerPorts)
		if ctx.Err() != nil {
			return
		}
		t.mu.Lock()
		t.result.Connections++
		if err != nil {
			t.broken(err)
		} else {
			t.result.PerNode[name]++
		}
		if took > stall {
			t.result.StalledOver1s++
		}
		t.mu.Unlock()
		time.Sleep(pause)
	}
}

func (t *traffic) broken(err error) {
	t.result.Broken++
	if len(t.errs) < 3 {
		t.errs = append(t.errs, err)
	}
}

// page makes a connection, asks for a page and returns the name in it.
func (t *traffic) page(ctx context.Context, family, port int) (string, time.Duration, error) {
	start := time.Now()
	conn, err := t.dial(ctx, family, port, webPort)
	took := time.Since(start)
	if err != nil {
		return "", took, err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", took, err
	}
	body, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil {
		return "", took, err
	}
	_, name, _ := strings.Cut(string(body), "\r\n\r\n")
	return strings.TrimSpace(name), took, nil
}

// dial connects from a port of its own, so that the shares are the same in every run. Closing the
// connection resets it: no TIME_WAIT stands in the way of the next one from that port.
func (t *traffic) dial(ctx context.Context, family, from, to int) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	dialer := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(clients[family], uint16(from)))}
	conn, err := t.cluster.client.DialFrom(ctx, dialer, "tcp", netip.AddrPortFrom(vips[family], uint16(to)).String())
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		conn.Close()
		return nil, err
	}
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// hold keeps one connection busy to the end of the scenario.
func (t *traffic) hold(ctx context.Context, i int) {
	err := t.echo(ctx, i)
	if err == nil || ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broken(fmt.Errorf("held connection: %w", err))
}

func (t *traffic) echo(ctx context.Context, i int) error {
	conn, err := t.dial(ctx, i%2, firstPort-held+i, echoPort)
	if err != nil {
		return err
	}
	defer conn.Close()
	message := []byte("still there?")
	answer := make([]byte, len(message))
	for ctx.Err() == nil {
		start := time.Now()
		if err := conn.SetDeadline(start.Add(patience)); err != nil {
			return err
		}
		if _, err := conn.Write(message); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, answer); err != nil {
			return err
		}
		t.mu.Lock()
		t.result.LongestGapMS = max(t.result.LongestGapMS, float64(time.Since(start).Microseconds())/1000)
		t.mu.Unlock()
		time.Sleep(heldPause)
	}
	return nil
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
	perNode = make(map[string]int, len(t.result.PerNode))
	for name, n := range t.result.PerNode {
		perNode[name] = n
	}
	return t.result.Connections, t.result.Broken, perNode
}
