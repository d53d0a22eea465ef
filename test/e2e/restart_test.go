package e2e

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// What happens to lbd is nothing to the traffic: the kernel goes on by itself, also where no node has one.
func TestRestartsAndKillsOfTheDaemonLoseNothing(t *testing.T) {
	for _, attach := range []string{"native", "generic"} {
		t.Run(attach, func(t *testing.T) {
			c := newCluster(t, options{attach: attach, weights: []int{100, 100, 100}})
			for _, n := range c.nodes {
				n.serve()
			}
			tap := newTap(t, c.client)
			load := c.startLoad(t)
			for range 17 { // 51 of each in either mode
				for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
					for _, n := range c.nodes {
						n.stop(signal)
					}
					for _, n := range c.nodes {
						n.launch()
					}
					for _, n := range c.nodes {
						n.await()
					}
				}
			}
			load.stop()
			_, doubled := tap.duplicates()
			t.Logf("%s: %d new connections, %d echoes over %d held connections; slowest connect %v, longest gap %v",
				attach, load.made.Load(), load.echoes.Load(), held, time.Duration(load.slowest.Load()), time.Duration(load.gap.Load()))
			if load.made.Load() < 1000 || load.echoes.Load() < 1000 {
				t.Errorf("too little traffic to tell")
			}
			if resent := tap.resent(); resent != 0 || len(tap.syns) < 1000 {
				t.Errorf("%d of %d SYNs were lost", resent, len(tap.syns))
			}
			if doubled != 0 {
				t.Errorf("%d SYNs were answered by two nodes", doubled)
			}
		})
	}
}

// held is the number of connections that live through everything.
const held = 60

// A load is traffic that must not notice anything.
type load struct {
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	made    atomic.Int64 // connections
	echoes  atomic.Int64 // round trips on held connections
	slowest atomic.Int64 // connect, nanoseconds
	gap     atomic.Int64 // longest round trip, nanoseconds
}

func (c *cluster) startLoad(t *testing.T) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel}
	for i := range held {
		vip := []netip.Addr{vip4, vip6}[i%2]
		local := net.TCPAddrFromAddrPort(netip.AddrPortFrom(clientAddr(vip), uint16(10000+i)))
		conn, err := c.client.DialFrom(ctx, &net.Dialer{LocalAddr: local}, "tcp", netip.AddrPortFrom(vip, port).String())
		check(t, err)
		l.wg.Go(func() { l.echo(ctx, t, conn) })
	}
	for worker := range 4 {
		l.wg.Go(func() {
			vip := []netip.Addr{vip4, vip6}[worker%2]
			for i := 0; ctx.Err() == nil; i++ {
				_, took, err := c.connect(vip, 20000+worker*3000+i%3000)
				if err != nil {
					t.Errorf("new connection: %v", err)
					return
				}
				l.made.Add(1)
				l.slowest.Store(max(l.slowest.Load(), int64(took)))
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	return l
}

// echo goes back and forth on one connection until the load ends.
func (l *load) echo(ctx context.Context, t *testing.T, conn net.Conn) {
	defer conn.Close()
	var name [3]byte
	if _, err := io.ReadFull(conn, name[:]); err != nil {
		t.Errorf("held connection: %v", err)
		return
	}
	message := []byte("still there?")
	answer := make([]byte, len(message))
	for ctx.Err() == nil {
		start := time.Now()
		if err := conn.SetDeadline(start.Add(patience)); err != nil {
			t.Errorf("held connection: %v", err)
			return
		}
		if _, err := conn.Write(message); err != nil {
			t.Errorf("held connection broke: %v", err)
			return
		}
		if _, err := io.ReadFull(conn, answer); err != nil {
			t.Errorf("held connection broke: %v", err)
			return
		}
		l.echoes.Add(1)
		l.gap.Store(max(l.gap.Load(), int64(time.Since(start))))
		time.Sleep(50 * time.Millisecond)
	}
}

func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}
