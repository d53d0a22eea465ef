// Package passage connects to a VIP at one backend of many, by the frames that a director would send
// there. The VIP is this machine's own as well, so its routes lead nowhere but to itself.
//
// Sockets are opened in a network namespace that has no name and goes with the process. All it has is
// a TUN device, in which the VIP is somebody else's. What comes out of it is sent to the backend of the
// connection, in a tunnel if the service has one; what backends answer from the VIP is picked off the
// wire and put back in. Neither routes, nor addresses, nor settings of this machine are touched.
package passage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

// linger is how long packets of a connection pass after it was closed here: its end is a packet, too.
const linger = 5 * time.Second

// A Way is how the packets of one connection get to a backend.
type Way struct {
	Source  netip.Addr // an address of this machine, of the VIP's family, that the backend answers to
	Backend netip.Addr // outer destination of a tunnel
	Hop     *lb.NextHop
	Forward lb.Forward // lb.ForwardDR or lb.ForwardTunnel
	Encap   lb.Encap   // of lb.ForwardTunnel
}

// A Passage opens connections. Its methods may be called in parallel.
type Passage struct {
	log    *slog.Logger
	wanted chan struct{} // somebody dials

	mu     sync.Mutex
	opened chan struct{} // is closed while packets can pass
	why    error         // they could not the last time
	side   *inside
	wire   *outside
	flows  map[flow]*Way
}

// A flow is a connection as its outgoing packets show it.
type flow struct {
	protocol     uint8
	source, dest netip.AddrPort
}

// New returns a Passage. It costs nothing before something is dialled.
func New(log *slog.Logger) *Passage {
	return &Passage{log: log, wanted: make(chan struct{}, 1), opened: make(chan struct{}), flows: make(map[flow]*Way)}
}

// Run carries packets until ctx ends, and then returns nil. They are sent and picked up in the network
// namespace of the calling thread.
func (p *Passage) Run(ctx context.Context) error {
	told := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wanted:
		}
		err := p.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if told != err.Error() { // each probe asks again
			told = err.Error()
			p.log.Error("backends cannot be asked for a vip", "err", err)
		}
	}
}

// serve carries packets as long as it can.
func (p *Passage) serve(ctx context.Context) error {
	wire, err := openOutside()
	if err != nil {
		return p.fail(err)
	}
	defer wire.close()
	side, err := openInside()
	if err != nil {
		return p.fail(err)
	}
	p.mu.Lock()
	p.side, p.wire = side, wire
	close(p.opened)
	p.mu.Unlock()
	err = p.carry(ctx, side, wire)
	p.mu.Lock()
	p.opened = make(chan struct{})
	p.mu.Unlock()
	return p.fail(err)
}

func (p *Passage) fail(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.why = err
	return err
}

// carry ends with the first error, or when ctx does.
func (p *Passage) carry(ctx context.Context, side *inside, wire *outside) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		<-ctx.Done()
		side.close()
		wire.deafen()
		return nil
	})
	group.Go(func() error { return p.outward(side, wire) })
	for _, replies := range wire.replies {
		group.Go(func() error { return p.inward(replies, side) })
	}
	return group.Wait()
}

// outward sends what comes out of the namespace to the backends.
func (p *Passage) outward(side *inside, wire *outside) error {
	buffer := make([]byte, maxPacket)
	for {
		n, err := side.tun.Read(buffer)
		if err != nil {
			return fmt.Errorf("read tun device: %w", err)
		}
		packet := buffer[:n]
		f, ok := flowOf(packet)
		if !ok {
			continue // the namespace's own: solicitations, reports
		}
		p.mu.Lock()
		way := p.flows[f]
		p.mu.Unlock()
		if way == nil {
			continue // of a connection that is over
		}
		if err := wire.send(way.wrap(packet, f.source.Port()), way.Hop); err != nil {
			p.log.Debug("a packet to a backend was not sent", "backend", way.Backend, "err", err) // the probe will say so
		}
	}
}

// inward puts answers into the namespace.
func (p *Passage) inward(replies *os.File, side *inside) error {
	buffer := make([]byte, maxPacket)
	for {
		n, err := replies.Read(buffer)
		if errors.Is(err, unix.ENETDOWN) {
			continue // some interface went down, and others are left
		}
		if err != nil {
			return fmt.Errorf("read packet socket: %w", err)
		}
		packet := buffer[:n]
		f, ok := flowOf(packet)
		if !ok {
			continue
		}
		p.mu.Lock()
		way := p.flows[flow{f.protocol, f.dest, f.source}]
		p.mu.Unlock()
		if way == nil {
			continue
		}
		if packet, ok = checksummed(packet); !ok {
			continue
		}
		if _, err := side.tun.Write(packet); err != nil {
			p.log.Debug("a packet from a backend was not taken", "backend", way.Backend, "err", err)
		}
	}
}

// Dial connects to a VIP and port by a way, on the network "tcp" or "udp".
func (p *Passage) Dial(ctx context.Context, network string, vip netip.AddrPort, way Way) (net.Conn, error) {
	switch {
	case way.Hop == nil:
		return nil, errors.New("no way to the backend is known")
	case way.Source.Is4() != vip.Addr().Is4():
		return nil, fmt.Errorf("no own address that could ask %s", vip.Addr())
	}
	side, wire, err := p.await(ctx)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(side.hold(way.Source), wire.listenTo(vip.Addr())); err != nil {
		return nil, err
	}
	var f flow
	dialer := &net.Dialer{Control: func(_, _ string, socket syscallConn) error {
		var err error
		f, err = bindTo(socket, network, way.Source, vip)
		if err == nil {
			p.mu.Lock()
			p.flows[f] = &way
			p.mu.Unlock()
		}
		return err
	}}
	conn, err := side.dial(ctx, dialer, network, vip)
	if err != nil {
		p.forget(f, &way)
		return nil, err
	}
	end := func() { time.AfterFunc(linger, func() { p.forget(f, &way) }) }
	if udp, ok := conn.(*net.UDPConn); ok {
		return &datagrams{udp, end}, nil
	}
	return &stream{conn, end}, nil
}

// await waits until packets can pass.
func (p *Passage) await(ctx context.Context) (*inside, *outside, error) {
	select {
	case p.wanted <- struct{}{}:
	default:
	}
	p.mu.Lock()
	opened := p.opened
	p.mu.Unlock()
	select {
	case <-opened:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.side, p.wire, nil
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.why != nil {
			return nil, nil, p.why
		}
		return nil, nil, ctx.Err()
	}
}

// forget ends a flow, unless another one has its port by now.
func (p *Passage) forget(f flow, way *Way) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flows[f] == way {
		delete(p.flows, f)
	}
}

// A stream is a connection whose packets pass until a little after it is closed.
type stream struct {
	net.Conn
	end func()
}

// Close closes the connection.
func (s *stream) Close() error {
	defer s.end()
	return s.Conn.Close()
}

// Datagrams are the same for UDP; they stay a net.PacketConn.
type datagrams struct {
	*net.UDPConn
	end func()
}

// Close closes the socket.
func (d *datagrams) Close() error {
	defer d.end()
	return d.UDPConn.Close()
}
