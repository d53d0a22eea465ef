package heartbeat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Heartbeat sends frames on one interface and hears those of others.
type Heartbeat struct {
	opts    Options
	cluster uint64
	log     *slog.Logger
	counts  counters
	changed chan struct{} // the reader learnt something
	hurry   chan struct{} // a frame should go out at once

	mu       sync.Mutex
	signer   *signer
	detector *detector
	counter  uint64    // of the last frame
	absence  time.Time // until when we said we may be silent; zero: we did not
	state    Link
	clash    bool // another node has our name, and we said so
}

// A Link says whether frames can go out and come in.
type Link struct {
	Up    bool
	Error string    // why not
	Since time.Time // when it became so
}

// New checks the options; nothing is sent before Run.
func New(opts Options) (*Heartbeat, error) {
	if err := opts.complete(); err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	signer, err := newSigner(opts.Keys)
	if err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	return &Heartbeat{
		opts: opts, cluster: clusterID(opts.Cluster), log: opts.Log.With("iface", opts.Interface),
		changed: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		signer: signer, detector: newDetector(opts), state: Link{Error: "not running", Since: time.Now()},
		counter: uptime(),
	}, nil
}

// uptime is a number that is above all counters of the processes before this one, which may have been
// in the same life: no frame takes as little as a nanosecond.
func uptime() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // fails for no clock that exists
	return uint64(ts.Nano())
}

// ReplaceKeys sets the cluster's secrets: frames are made with the first and accepted with any.
func (h *Heartbeat) ReplaceKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return errors.New("heartbeat: replace keys: no key")
	}
	signer, err := newSigner(keys)
	if err != nil {
		return fmt.Errorf("heartbeat: replace keys: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.signer = signer
	return nil
}

// SetAbsence makes this frame and those that follow say that we may be silent for d from now on.
// Zero takes it back.
func (h *Heartbeat) SetAbsence(d time.Duration) {
	h.mu.Lock()
	h.absence = time.Time{}
	if d > 0 {
		h.absence = time.Now().Add(d)
	}
	h.mu.Unlock()
	wake(h.hurry)
}

// SetLife begins another life, with a larger number: peers have not heard it yet.
func (h *Heartbeat) SetLife(life uint64) {
	h.mu.Lock()
	h.opts.Life = life
	h.detector.begin(life, time.Now())
	h.mu.Unlock()
	wake(h.changed)
	wake(h.hurry)
}

// Peers returns the nodes that were ever heard, sorted by name.
func (h *Heartbeat) Peers() []Peer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.detector.snapshot()
}

// Link returns the state of the interface.
func (h *Heartbeat) Link() Link {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

// Counters returns what was sent, heard and ignored since New.
func (h *Heartbeat) Counters() Counters { return h.counts.read() }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func nativeInt64(b []byte) int64 { return int64(binary.NativeEndian.Uint64(b)) }

// Run sends and listens until ctx ends, and then returns nil. It works in the network namespace of
// the calling thread. An interface that is down, missing, or made anew is no error: Link tells,
// and Run goes on as soon as it can.
func (h *Heartbeat) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := h.session(ctx)
		if ctx.Err() != nil {
			break
		}
		h.setLink(err)
		h.wait(ctx)
	}
	h.setLink(errors.New("not running"))
	return nil
}

// wait passes the time until the next attempt; peers fall silent meanwhile.
func (h *Heartbeat) wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(h.opts.Interval):
	}
	h.look()
}

// session opens the interface and uses it until it fails.
func (h *Heartbeat) session(ctx context.Context) error {
	link, err := openLink(h.opts.Interface)
	if err != nil {
		return err
	}
	h.setLink(nil)
	ended := make(chan error, 1)
	var reader sync.WaitGroup
	reader.Go(func() { ended <- h.listen(link) })
	defer reader.Wait()
	defer link.conn.Close()
	return h.beat(ctx, link, ended)
}

// beat sends in rhythm, and notices who falls silent as soon as it is so.
func (h *Heartbeat) beat(ctx context.Context, link *link, ended <-chan error) error {
	tick := time.NewTimer(0)
	defer tick.Stop()
	silence := time.NewTimer(h.opts.DeadAfter)
	defer silence.Stop()
	var due, checked time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return err
		case <-tick.C:
			now := time.Now()
			if now.Sub(checked) >= time.Second {
				if checked = now; !link.current() {
					return errors.New("interface changed")
				}
			}
			h.send(link)
			due = nextTick(due, now, h.opts.Interval)
			tick.Reset(due.Sub(now))
		case <-h.hurry:
			h.send(link)
		case <-silence.C:
		case <-h.changed:
			h.tell()
		}
		silence.Reset(h.look())
	}
}

// nextTick keeps the rhythm: multiples of the interval after the last one. Ticks that were missed
// are not made up, and two never follow each other closely.
func nextTick(due, now time.Time, interval time.Duration) time.Time {
	next := due.Add(interval)
	if next.Sub(now) < interval/2 {
		return now.Add(interval)
	}
	return next
}

// look tells of those who fell silent and returns when to look again.
func (h *Heartbeat) look() time.Duration {
	now := time.Now()
	h.mu.Lock()
	changed, next := h.detector.look(now), h.detector.next()
	h.mu.Unlock()
	if changed {
		h.tell()
	}
	if next.IsZero() {
		return h.opts.DeadAfter
	}
	return next.Sub(now)
}

func (h *Heartbeat) tell() {
	if h.opts.Changed != nil {
		h.opts.Changed()
	}
}

// send sends one frame. What the interface does not take is lost: the next one says more.
func (h *Heartbeat) send(link *link) {
	if err := link.send(h.nextFrame(time.Now()), h.opts.Interval); err != nil {
		h.counts.drop(Unsent)
		return
	}
	h.counts.sent.Add(1)
}

func (h *Heartbeat) nextFrame(now time.Time) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counter++
	f := frame{cluster: h.cluster, life: h.opts.Life, counter: h.counter, name: h.opts.Node, heard: h.detector.report(now, h.opts.Confirms)}
	if left := h.absence.Sub(now); !h.absence.IsZero() && left > 0 {
		f.absence = left
	}
	return h.signer.sign(f.encode())
}

// listen hears frames until the socket fails or is closed.
func (h *Heartbeat) listen(link *link) error {
	buf := make([]byte, ethernetHeader+maxFrame)
	for {
		from, b, at, err := link.receive(buf)
		if err != nil {
			return listenError(err)
		}
		h.hear(link.own, from, b, at)
	}
}

func listenError(err error) error {
	if errors.Is(err, unix.ENETDOWN) {
		return errors.New("interface went down")
	}
	return fmt.Errorf("listen: %w", err)
}

// hear judges what came.
func (h *Heartbeat) hear(own map[[6]byte]bool, from [6]byte, b []byte, at time.Time) {
	body, mac, err := split(b)
	if err != nil {
		h.counts.drop(Malformed)
		return
	}
	if clusterOf(body) != h.cluster {
		h.counts.drop(ForeignCluster)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.signer.verify(body, mac) {
		h.counts.drop(BadMAC)
		return
	}
	f, err := parse(body)
	switch {
	case err != nil:
		h.counts.drop(Malformed)
	case f.name == h.opts.Node && own[from]:
		h.counts.drop(OwnEcho)
	case f.name == h.opts.Node:
		h.counts.drop(NameClash)
		h.warnClash(from)
	default:
		h.hearPeer(f, from, at)
	}
}

func (h *Heartbeat) hearPeer(f *frame, from [6]byte, at time.Time) {
	switch h.detector.hear(f, from, at) {
	case heardBefore:
		h.counts.drop(Replayed)
	case heardTooMany:
		h.counts.drop(TooMany)
	case heardNews:
		wake(h.changed)
		fallthrough
	case heardAgain:
		h.counts.received.Add(1)
	}
}

// warnClash says once that somebody has our name. It may also be a recording of an earlier life.
func (h *Heartbeat) warnClash(from [6]byte) {
	if h.clash {
		return
	}
	h.clash = true
	h.log.Warn("another machine sends heartbeats with our name", "node", h.opts.Node, "mac", net.HardwareAddr(from[:]))
}

// setLink notes and logs whether frames can go out.
func (h *Heartbeat) setLink(err error) {
	now := Link{Up: err == nil, Since: time.Now()}
	if err != nil {
		now.Error = err.Error()
	}
	h.mu.Lock()
	same := h.state.Up == now.Up && h.state.Error == now.Error
	if h.state.Up == now.Up {
		now.Since = h.state.Since
	}
	h.state = now
	h.mu.Unlock()
	if same {
		return
	}
	if now.Up {
		h.log.Info("heartbeat on")
	} else {
		h.log.Warn("heartbeat off", "err", now.Error)
	}
	h.tell()
}
