package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/nettest"
)

const (
	newEvery  = 3 * time.Millisecond // a new connection begins
	heldEvery = 100 * time.Millisecond
	// patienceForSYN ends before a SYN is sent again: each attempt is one SYN, answered or not.
	patienceForSYN = 800 * time.Millisecond
	// patienceForLine is for servers on a busy machine.
	patienceForLine = 5 * time.Second
	firstNew        = 20000 // source port, of each family
	lastNew         = 59999
	firstHeld       = 10000
)

// An attempt is one SYN of the client's.
type attempt struct {
	caller
	began    time.Time
	answered bool
	node     string // that served it; empty when it was not served to the end
	err      error
}

// A heldFlow is a connection that exchanges lines until it breaks.
type heldFlow struct {
	caller
	node   string
	broken time.Time // zero: lives
	err    error
	last   time.Time // of an answer
	gap    time.Duration
}

// Callers are a client that begins new connections all the time, half of them IPv6, each of which is one
// SYN, and keeps up others. They are one thread in the client's namespace, so that times are those of the
// packets as far as a busy machine can tell.
type callers struct {
	t  testing.TB
	do chan func()

	mu   sync.Mutex
	made []attempt // that ended, by their end
	held map[caller]*heldFlow

	// of the thread
	poll  int
	now   time.Time
	open  map[int]*socket
	ports map[bool]uint16 // the last one that was used, by family
	v6    bool            // the last one's family
}

// A socket is a connection that is not closed.
type socket struct {
	fd        int
	attempt   attempt
	held      *heldFlow // nil: a new one, closed once it was served
	connected bool
	asked     bool // an answer is to come
}

// startCallers begins; the test's end ends it. Each node answers a line with its name.
func (c *cluster) startCallers(t testing.TB) *callers {
	t.Helper()
	f := &callers{
		t: t, do: make(chan func()), held: make(map[caller]*heldFlow), open: make(map[int]*socket),
		ports: map[bool]uint16{false: firstNew, true: firstNew},
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.client.Do(func() error { return f.run(ctx) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("client: %v", err)
		}
	})
	return f
}

func (f *callers) run(ctx context.Context) error {
	var err error
	if f.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	defer func() {
		for _, s := range f.open {
			f.close(s)
		}
		unix.Close(f.poll)
	}()
	events := make([]unix.EpollEvent, 64)
	next, check := time.Now(), time.Now()
	for ctx.Err() == nil {
		select {
		case do := <-f.do:
			do()
		default:
		}
		n, err := unix.EpollWait(f.poll, events, 1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait: %w", err)
		}
		f.now = time.Now()
		for _, e := range events[:max(n, 0)] {
			if s := f.open[int(e.Fd)]; s != nil {
				f.ready(s, e.Events)
			}
		}
		if f.now.After(next) {
			next = later(next.Add(newEvery), f.now.Add(-newEvery)) // what a busy machine missed is not made up for
			if err := f.begin(); err != nil {
				return err
			}
		}
		if f.now.After(check) {
			check = f.now.Add(5 * time.Millisecond)
			f.overdue()
		}
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// begin starts a new connection.
func (f *callers) begin() error {
	v6 := !f.v6
	f.v6 = v6
	port := f.ports[v6] + 1
	if port > lastNew {
		port = firstNew
	}
	f.ports[v6] = port
	_, err := f.connect(caller{v6, port})
	return err
}

func (f *callers) connect(of caller) (*socket, error) {
	vip, family := vip4, unix.AF_INET
	if of.v6 {
		vip, family = vip6, unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	s := &socket{fd: fd, attempt: attempt{caller: of, began: time.Now()}}
	f.open[fd] = s
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, sockaddr(netip.AddrPortFrom(clientAddr(vip), of.port))),
	)
	if err != nil {
		return nil, fmt.Errorf("bind port %d: %w", of.port, err)
	}
	if err := unix.Connect(fd, sockaddr(netip.AddrPortFrom(vip, port))); !errors.Is(err, unix.EINPROGRESS) {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return s, unix.EpollCtl(f.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)})
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// ready goes on with a connection: connected, then asked, then answered.
func (f *callers) ready(s *socket, events uint32) {
	if code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		f.end(s, errors.Join(err, unix.Errno(code)))
		return
	}
	if !s.connected {
		s.connected, s.attempt.answered = true, true
		err := unix.EpollCtl(f.poll, unix.EPOLL_CTL_MOD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)})
		if err != nil {
			f.end(s, err)
			return
		}
		f.ask(s)
		return
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return
	}
	var line [64]byte
	n, err := unix.Read(s.fd, line[:])
	switch {
	case errors.Is(err, unix.EAGAIN):
	case err != nil:
		f.end(s, err)
	case n == 0:
		f.end(s, errors.New("closed by the server"))
	default:
		node, _, _ := strings.Cut(string(line[:n]), " ")
		f.answered(s, node)
	}
}

func (f *callers) ask(s *socket) {
	if _, err := unix.Write(s.fd, []byte("hello\n")); err != nil {
		f.end(s, err)
		return
	}
	s.asked = true
}

func (f *callers) answered(s *socket, node string) {
	s.asked = false
	if s.held == nil {
		s.attempt.node = node
		f.end(s, nil)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h := s.held
	if h.node != "" && h.node != node {
		h.err, h.broken = fmt.Errorf("%s answers instead of %s", node, h.node), f.now
	}
	h.node = node
	if !h.last.IsZero() {
		h.gap = max(h.gap, f.now.Sub(h.last))
	}
	h.last = f.now
}

// end closes a connection and notes what became of it.
func (f *callers) end(s *socket, err error) {
	f.close(s)
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.held != nil {
		s.held.err, s.held.broken = err, f.now
		return
	}
	s.attempt.err = err
	f.made = append(f.made, s.attempt)
}

// close resets what is connected: ports are used again, and no TIME_WAIT may be in the way.
func (f *callers) close(s *socket) {
	if s.connected {
		_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	unix.Close(s.fd)
	delete(f.open, s.fd)
}

// errUnanswered is what became of a SYN that nobody answered.
var errUnanswered = errors.New("not answered")

// overdue gives up new connections, and asks on the others.
func (f *callers) overdue() {
	for _, s := range f.open {
		patience := patienceForSYN
		if s.connected {
			patience = patienceForLine
		}
		switch {
		case s.held == nil && f.now.Sub(s.attempt.began) > patience:
			f.end(s, errUnanswered)
		case s.held != nil && s.connected && !s.asked && f.now.Sub(s.held.last) > heldEvery:
			f.ask(s)
		}
	}
}

// within runs do on the client's thread.
func (f *callers) within(do func()) {
	done := make(chan struct{})
	f.do <- func() { do(); close(done) }
	<-done
}

// hold makes so many connections that stay, instead of those from before, and returns when all of
// them are served.
func (f *callers) hold(t testing.TB, n int) {
	t.Helper()
	f.within(func() {
		for _, s := range f.open {
			if s.held != nil {
				f.close(s)
			}
		}
		f.mu.Lock()
		f.held = make(map[caller]*heldFlow)
		f.mu.Unlock()
		for i := range n {
			s, err := f.connect(caller{i%2 == 1, uint16(firstHeld + i)})
			if err != nil {
				t.Error(err)
				return
			}
			s.held = &heldFlow{caller: s.attempt.caller}
			f.mu.Lock()
			f.held[s.held.caller] = s.held
			f.mu.Unlock()
		}
	})
	nettest.Eventually(t, agreeWithin, func() error {
		served := make(map[string]int)
		for _, h := range f.heldNow() {
			served[h.node]++
		}
		if served[""] > 0 || len(served) == 0 {
			return fmt.Errorf("connections that stay, by node: %v", served)
		}
		return nil
	})
}

// heldNow returns what is known of the connections that stay.
func (f *callers) heldNow() (list []heldFlow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.held {
		list = append(list, *h)
	}
	return list
}

// attempts returns those that began in [from, to), by their beginning. It waits until all of them ended.
func (f *callers) attempts(from, to time.Time) (list []attempt) {
	time.Sleep(time.Until(to))
	for open := true; open; {
		time.Sleep(20 * time.Millisecond)
		f.within(func() {
			open = false
			for _, s := range f.open {
				open = open || s.held == nil && s.attempt.began.Before(to)
			}
		})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.made {
		if !a.began.Before(from) && a.began.Before(to) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b attempt) int { return cmp.Compare(a.began.UnixNano(), b.began.UnixNano()) })
	return list
}

// unanswered returns those of the attempts.
func unanswered(list []attempt) (failed []attempt) {
	for _, a := range list {
		if !a.answered {
			failed = append(failed, a)
		}
	}
	return failed
}

// wantServed fails the test when one of the attempts was not answered, or answered and then dropped.
func wantServed(t testing.TB, list []attempt) {
	t.Helper()
	var failed []string
	for _, a := range list {
		if a.node == "" {
			failed = append(failed, fmt.Sprintf("%s port %d (IPv6 %t): answered %t, %v",
				a.began.Format("05.000"), a.port, a.v6, a.answered, a.err))
		}
	}
	if len(list) < 5 || len(failed) > 0 {
		t.Errorf("%d of %d new connections failed: %v", len(failed), len(list), first(failed))
	}
}

// nodesOf counts who served.
func nodesOf(list []attempt) map[string]int {
	counts := make(map[string]int)
	for _, a := range list {
		counts[a.node]++
	}
	return counts
}

// recoverTime is how long a connection may need to go on, once nothing is lost any more: one whose answers
// were lost several times in a row is sent again after seconds only.
const recoverTime = 30 * time.Second

// wantHeld fails the test when connections broke, or hang for good, that nodes other than the given ones
// serve, or when there are none.
func (f *callers) wantHeld(t testing.TB, but ...string) {
	t.Helper()
	hangs := func(h heldFlow) bool {
		return !slices.Contains(but, h.node) && h.err == nil && time.Since(h.last) > 2*time.Second
	}
	for end := time.Now().Add(recoverTime); time.Now().Before(end) && slices.ContainsFunc(f.heldNow(), hangs); {
		time.Sleep(100 * time.Millisecond)
	}
	lived := 0
	for _, h := range f.heldNow() {
		switch {
		case slices.Contains(but, h.node):
		case h.err != nil:
			t.Errorf("connection from port %d (IPv6 %t) to %s broke at %s: %v", h.port, h.v6, h.node, h.broken.Format("05.000"), h.err)
		case time.Since(h.last) > 2*time.Second:
			t.Errorf("connection from port %d (IPv6 %t) to %s hangs since %s", h.port, h.v6, h.node, h.last.Format("05.000"))
		default:
			lived++
		}
	}
	if lived == 0 {
		t.Error("no connection that should live")
	}
}
