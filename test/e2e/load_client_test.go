package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// clientOptions say how much to do; half of everything is IPv6.
type clientOptions struct {
	VIPs  []netip.Addr
	Port  uint16
	Held  int           // connections that live through everything
	Every time.Duration // between two lines on each of them
	Rate  int           // new connections a second
	Flows int           // of datagrams that live through everything; a tenth as many new ones begin each second
}

// patience is how long the client waits before it calls a connection broken.
const patience = 20 * time.Second

// stalled is a wait that people notice, and as long as a lost SYN takes.
const stalled = time.Second

// A loadClient keeps up the load and notes what goes wrong.
type loadClient struct {
	clientOptions
	dialer net.Dialer
	began  time.Time
	sniff  *sniffer

	made, exchanges, broken, stalls atomic.Int64
	brokenHeld                      atomic.Int64
	gap, slowest                    atomic.Int64 // nanoseconds
	asked, lost, doubled, moved     atomic.Int64 // datagrams
	mu                              sync.Mutex
	notes                           []string
	noted                           map[string]int // by kind
	perNode, brokenOf               map[string]int
}

// playClient connects, is ready, and keeps up the load until ctx ends.
func playClient(ctx context.Context, text []byte, ready func()) (any, error) {
	c := &loadClient{dialer: net.Dialer{KeepAlive: -1, Timeout: patience}, began: time.Now(), perNode: make(map[string]int), brokenOf: make(map[string]int), noted: make(map[string]int)}
	if err := json.Unmarshal(text, &c.clientOptions); err != nil {
		return nil, err
	}
	var err error
	if c.sniff, err = newSniffer(c.Port, c.note); err != nil {
		return nil, err
	}
	sniffed, stop := context.WithCancel(context.Background())
	defer stop()
	var sniffing errgroup.Group
	sniffing.Go(func() error { return c.sniff.run(sniffed) })
	held, err := c.connectAll(ctx)
	if err != nil {
		return nil, err
	}
	ready()
	var traffic sync.WaitGroup
	for _, conn := range held {
		traffic.Go(func() { c.hold(ctx, conn) })
	}
	traffic.Go(func() { c.paced(ctx, c.Rate, c.visit) })
	for i := range c.Flows {
		traffic.Go(func() { c.flow(ctx, i, 200*time.Millisecond) })
	}
	traffic.Go(func() {
		c.paced(ctx, c.Flows/10, func(i int) {
			once, cancel := context.WithCancel(context.Background())
			cancel()
			c.flow(once, i, 0)
		})
	})
	traffic.Wait()
	stop()
	if err := sniffing.Wait(); err != nil {
		return nil, err
	}
	return c.report(len(held)), nil
}

// note keeps what went wrong first, of each kind.
func (c *loadClient) note(kind, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noted[kind]++; c.noted[kind] <= 12 {
		c.notes = append(c.notes, fmt.Sprintf("%8.3f %s: %s", time.Since(c.began).Seconds(), kind, text))
	}
}

// to is where the flow with a number goes.
func (c *loadClient) to(number int) string {
	return netip.AddrPortFrom(c.VIPs[number%len(c.VIPs)], c.Port).String()
}

// A visit is a connection and what it knows of its server.
type visit struct {
	net.Conn
	lines *bufio.Reader
	node  string
}

func (c *loadClient) connect(number int) (*visit, error) {
	conn, err := c.dialer.Dial("tcp", c.to(number))
	if err != nil {
		return nil, err
	}
	return newVisit(conn), nil
}

func newVisit(conn net.Conn) *visit { return &visit{Conn: conn, lines: bufio.NewReaderSize(conn, 64)} }

// exchange sends a line and wants it back, by the same node as before.
func (v *visit) exchange() error {
	if err := v.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := v.Write([]byte("still there?\n")); err != nil {
		return err
	}
	line, err := v.lines.ReadString('\n')
	if err != nil {
		return err
	}
	node, said, _ := strings.Cut(line, " ")
	switch {
	case said != "still there?\n":
		return fmt.Errorf("%q is no answer", line)
	case v.node != "" && v.node != node:
		return fmt.Errorf("%s answers instead of %s", node, v.node)
	}
	v.node = node
	return nil
}

// reset leaves no TIME_WAIT behind: ports are used again.
func (v *visit) reset() {
	_ = v.Conn.(*net.TCPConn).SetLinger(0)
	v.Close()
}

// connectAll makes the connections that stay.
func (c *loadClient) connectAll(ctx context.Context) ([]*visit, error) {
	held := make([]*visit, c.Held)
	group, _ := errgroup.WithContext(ctx)
	group.SetLimit(128)
	for i := range held {
		group.Go(func() (err error) {
			if held[i], err = c.connect(i); err == nil {
				err = held[i].exchange()
			}
			return err
		})
	}
	return held, group.Wait()
}

// hold exchanges lines until ctx ends, and one more then: what broke unnoticed is noticed at the end.
func (c *loadClient) hold(ctx context.Context, v *visit) {
	defer v.reset()
	sometime := func(within time.Duration) <-chan time.Time { return time.After(rand.N(within)) }
	next := sometime(c.Every)
	for {
		select {
		case <-ctx.Done():
			<-sometime(time.Duration(c.Held) * time.Second / 4000) // not all of them at once
			c.exchangeHeld(v)
			return
		case <-next:
		}
		if !c.exchangeHeld(v) {
			return
		}
		next = time.After(c.Every)
	}
}

func (c *loadClient) exchangeHeld(v *visit) bool {
	ok := c.timed("held connection", v, v.exchange)
	if !ok {
		c.brokenHeld.Add(1)
	}
	return ok
}

// timed does something that must work, and not take long.
func (c *loadClient) timed(what string, v *visit, do func() error) bool {
	start := time.Now()
	err := do()
	took := time.Since(start)
	c.exchanges.Add(1)
	highest(&c.gap, took)
	c.judge(what, v, took, err)
	return err == nil
}

// judge counts and notes what did not work, and what took long because something was lost: a server
// that the machine did not let run loses nothing.
func (c *loadClient) judge(what string, v *visit, took time.Duration, err error) {
	kind := "broken"
	switch {
	case err != nil:
		c.broken.Add(1)
		c.brokeOf(v)
	case took < stalled:
		return
	case v.retransmitted():
		kind = "stalled"
		c.stalls.Add(1)
	default:
		kind = "late"
	}
	about := "unanswered"
	if v != nil {
		about = fmt.Sprintf("%s of %q", v.LocalAddr(), v.node)
	}
	c.note(kind, fmt.Sprintf("%s %s: after %s: %v", what, about, took.Round(time.Millisecond), err))
}

// brokeOf notes whose connection broke.
func (c *loadClient) brokeOf(v *visit) {
	node := ""
	if v != nil {
		node = v.node
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.brokenOf[node]++
}

// retransmitted says whether anything that was sent was sent again.
func (v *visit) retransmitted() bool {
	raw, err := v.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	again := true
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
		again = err != nil || info.Total_retrans > 0
	})
	return again
}

func highest(of *atomic.Int64, took time.Duration) {
	for {
		before := of.Load()
		if int64(took) <= before || of.CompareAndSwap(before, int64(took)) {
			return
		}
	}
}

// paced starts do so many times a second until ctx ends, and waits for what it started. It does not
// make up for a time in which the machine did not let it run: all at once would be another load.
func (c *loadClient) paced(ctx context.Context, rate int, do func(number int)) {
	var all sync.WaitGroup
	defer all.Wait()
	const tick, most = 10 * time.Millisecond, 200 * time.Millisecond
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	last, due, started := time.Now(), 0.0, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		due += min(time.Since(last), most).Seconds() * float64(rate)
		last = time.Now()
		for ; due >= 1; due-- {
			number := started
			all.Go(func() { do(number) })
			started++
		}
	}
}

// visit makes a connection, talks, and closes it; every second one in the quick way.
func (c *loadClient) visit(number int) {
	start := time.Now()
	v, err := c.connect(number)
	took := time.Since(start)
	c.made.Add(1)
	highest(&c.slowest, took)
	c.judge("connect", v, took, err)
	if err != nil {
		return
	}
	defer v.reset()
	for range 2 {
		if !c.timed("new connection", v, v.exchange) {
			return
		}
	}
	c.mu.Lock()
	c.perNode[v.node]++
	c.mu.Unlock()
	if number/2%2 == 0 {
		c.closeInOrder(v)
	}
}

// closeInOrder sends a FIN and waits for the server's.
func (c *loadClient) closeInOrder(v *visit) {
	err := v.Conn.(*net.TCPConn).CloseWrite()
	if err == nil {
		if _, err = v.lines.ReadByte(); err == nil {
			err = errors.New("more than was asked for")
		}
	}
	if !errors.Is(err, io.EOF) {
		c.judge("close", v, 0, err)
	}
	v.Close()
}

// An asker is a client of datagrams and who answers it.
type asker struct {
	net.Conn
	node string
	open map[string]bool // questions that were not answered in time
}

// flow asks by datagrams until ctx ends, at least once.
func (c *loadClient) flow(ctx context.Context, number int, every time.Duration) {
	conn, err := c.dialer.Dial("udp", c.to(number))
	if err != nil {
		c.note("datagram lost", err.Error())
		c.lost.Add(1)
		return
	}
	defer conn.Close()
	f := &asker{Conn: conn, open: make(map[string]bool)}
	for i := 0; i == 0 || ctx.Err() == nil; i++ {
		c.ask(f, i)
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
	_ = c.hear(f, "", 100*time.Millisecond) // counts late ones; that none come is what ends it
}

// ask sends a datagram and waits for its answer.
func (c *loadClient) ask(f *asker, number int) {
	c.asked.Add(1)
	question := fmt.Sprintf("question %d", number)
	_, err := f.Write([]byte(question))
	if err == nil {
		err = c.hear(f, question, 5*stalled)
	}
	if err != nil {
		f.open[question] = true
		c.lost.Add(1)
		c.note("datagram lost", fmt.Sprintf("%s: %s of %q: %v", f.LocalAddr(), question, f.node, err))
	}
}

// hear waits for the answer to a question. Others that come are late, or duplicates.
func (c *loadClient) hear(f *asker, question string, within time.Duration) error {
	if err := f.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	buffer := make([]byte, 64)
	for {
		n, err := f.Read(buffer)
		if err != nil {
			return err
		}
		node, answered, _ := strings.Cut(string(buffer[:n]), " ")
		switch {
		case answered == question:
		case f.open[answered]:
			delete(f.open, answered)
			c.lost.Add(-1)
			c.note("datagram late", fmt.Sprintf("%s: %s by %s", f.LocalAddr(), answered, node))
		default:
			c.doubled.Add(1)
			c.note("datagram again", fmt.Sprintf("%s: %s by %s", f.LocalAddr(), answered, node))
			continue
		}
		if f.node != "" && node != f.node {
			c.moved.Add(1)
			c.note("datagram moved", fmt.Sprintf("%s: %s answers instead of %s", f.LocalAddr(), node, f.node))
		}
		f.node = node
		if answered == question {
			return nil
		}
	}
}

func (c *loadClient) report(held int) report {
	s := c.sniff
	s.mu.Lock()
	defer s.mu.Unlock()
	return report{
		Connections: held + int(c.made.Load()), Held: held, Made: int(c.made.Load()), Exchanges: int(c.exchanges.Load()),
		Broken: int(c.broken.Load()), BrokenHeld: int(c.brokenHeld.Load()), StalledOver1s: int(c.stalls.Load()),
		LongestGapMS: milliseconds(&c.gap), SlowestConnectMS: milliseconds(&c.slowest),
		Handshakes: len(s.syns), DuplicateSynAcks: s.doubled, SynRetransmits: s.resent, SynAckRetransmits: s.answered, Resets: s.resets,
		Datagrams: int(c.asked.Load()), DatagramsLost: int(c.lost.Load()), DatagramsDoubled: int(c.doubled.Load()), DatagramsMoved: int(c.moved.Load()),
		Seconds: time.Since(c.began).Seconds(), PerNode: c.perNode, BrokenOf: c.brokenOf, Notes: c.notes,
	}
}

func milliseconds(of *atomic.Int64) float64 {
	return float64(of.Load()/1000) / 1000
}
