package datapath_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/packettest"
)

const (
	randomFrames  = 10_000_000
	randomWorkers = 2
	longShare     = 10 // one of so many frames goes the long way, too
)

// Whatever comes in: what is not about a VIP reaches the stack as it came, and the rest ends in a
// known way, by both ways alike.
func TestNothingThatComesInIsTreatedAtRandom(t *testing.T) {
	corpus := corpusOf(fixtures())
	var workers sync.WaitGroup
	for worker := range uint64(randomWorkers) {
		// of its own, or a fragment of one worker's would change what the other's next one meets
		instance := instanceOf(t, world())
		m := &mutator{random: rand.New(rand.NewPCG(10, worker)), corpus: corpus, addrs: vipAddrs()}
		r := &randomRun{
			short: packettest.NewRunner(t, instance.XDP()),
			long:  packettest.NewRunner(t, longWay(t, instance)),
			vips:  make(map[netip.Addr]bool),
		}
		for _, addr := range m.addrs {
			r.vips[addr] = true
		}
		frames := packettest.Scaled(t, randomFrames) / randomWorkers
		workers.Go(func() { r.run(t, m, frames) })
		defer func() { r.checkTotals(t, count(t, instance)) }()
	}
	workers.Wait()
}

// corpusOf is what mutations start from: every fixture, jumbo frames by themselves.
func corpusOf(list []fixture) (corpus [2][][]byte) {
	for _, fix := range list {
		for _, frame := range append(fix.before, fix.frame) {
			big := 0
			if len(frame) > 1514 {
				big = 1
			}
			corpus[big] = append(corpus[big], frame)
		}
	}
	return corpus
}

func vipAddrs() []netip.Addr {
	var addrs []netip.Addr
	for _, vip := range world().VIPs {
		addrs = append(addrs, vip.Addr)
	}
	return addrs
}

// A mutator makes frames that are nearly right, as most bugs need.
type mutator struct {
	random *rand.Rand
	corpus [2][][]byte
	addrs  []netip.Addr
	buf    []byte
}

func (m *mutator) next() []byte {
	if m.random.IntN(16) == 0 {
		return m.noise(14 + m.random.IntN(150))
	}
	list := m.corpus[0]
	if m.random.IntN(2000) == 0 {
		list = m.corpus[1]
	}
	m.buf = append(m.buf[:0], list[m.random.IntN(len(list))]...)
	for range 1 + m.random.IntN(4) {
		m.mutate()
	}
	return m.buf
}

func (m *mutator) noise(n int) []byte {
	m.buf = m.buf[:0]
	for len(m.buf) < n {
		m.buf = binary.LittleEndian.AppendUint64(m.buf, m.random.Uint64())
	}
	m.buf = m.buf[:n]
	if types := []uint16{0x0800, 0x86dd, 0x0806, 0x8100, 0}; m.random.IntN(2) == 0 {
		binary.BigEndian.PutUint16(m.buf[12:], types[m.random.IntN(len(types))])
	}
	return m.buf
}

// mutate changes the frame in one place; most places that matter are at the start.
func (m *mutator) mutate() {
	at := m.random.IntN(min(len(m.buf), 128))
	switch m.random.IntN(8) {
	case 0, 1:
		m.buf[at] ^= 1 << m.random.IntN(8)
	case 2:
		m.buf[at] = byte(m.random.Uint32())
	case 3:
		m.buf[at] = []byte{0, 1, 6, 17, 44, 58, 0x7f, 0x80, 0xff}[m.random.IntN(9)]
	case 4:
		if len(m.buf) > 14 {
			m.buf = m.buf[:14+m.random.IntN(len(m.buf)-14)]
		}
	case 5:
		m.buf = append(m.buf, make([]byte, m.random.IntN(32))...)
	case 6:
		copy(m.buf[at:], m.addrs[m.random.IntN(len(m.addrs))].AsSlice())
	case 7:
		from := m.corpus[0][m.random.IntN(len(m.corpus[0]))]
		start := m.random.IntN(len(from))
		copy(m.buf[at:], from[start:min(len(from), start+1+m.random.IntN(24))])
	}
}

// A randomRun is one worker's.
type randomRun struct {
	short, long *packettest.Runner
	vips        map[netip.Addr]bool
	sent        counted
	foreign     int
}

func (r *randomRun) run(t *testing.T, m *mutator, frames int) {
	for i := range frames {
		frame := m.next()
		action, out, err := r.short.Run(frame)
		if err != nil {
			t.Errorf("frame %x: %v", frame, err)
			return
		}
		r.sent.Packets++
		r.sent.Bytes += uint64(len(frame))
		if why := r.judge(frame, action, out); why != "" {
			t.Errorf("%s: action %d, frame\n%x became\n%x", why, action, frame, out)
			return
		}
		if i%longShare != 0 {
			continue
		}
		longAction, longOut, err := r.long.Run(frame)
		if err != nil || longAction != action || !bytes.Equal(longOut, out) {
			t.Errorf("frame\n%x\nshort way: %d\n%x\nlong way: %d\n%x\nerror: %v", frame, action, out, longAction, longOut, err)
			return
		}
	}
	if r.foreign < frames/10 || r.foreign > frames*9/10 {
		t.Errorf("%d of %d frames are about no VIP: the mutations are lopsided", r.foreign, frames)
	}
}

// judge says what is wrong, if anything.
func (r *randomRun) judge(frame []byte, action uint32, out []byte) string {
	if !r.aboutVIP(frame) {
		r.foreign++
		if action != actionPass || !bytes.Equal(out, frame) {
			return "a frame about no VIP was not left alone"
		}
		return ""
	}
	switch action {
	case actionDrop:
		if !bytes.Equal(out, frame) {
			return "a dropped frame was changed"
		}
	case actionPass:
		if !bytes.Equal(out, frame) && (!bytes.Equal(out[:6], ownMAC) || !bytes.Equal(out[6:], frame[6:])) {
			return "more than the MAC of a passed frame was changed"
		}
	case actionTX:
		return r.judgeAnswer(frame, out)
	default:
		return "no such verdict"
	}
	return ""
}

// judgeAnswer checks that an answer is one: from this node, to who asked, and right to the last bit.
func (r *randomRun) judgeAnswer(frame, out []byte) string {
	l3, ethertype := payloadOf(out)
	if !bytes.Equal(out[6:12], ownMAC) {
		return "an answer is not from this node's MAC"
	}
	if ethertype == 0x0806 {
		if len(out) != len(frame) || !bytes.Equal(out[:6], frame[6:12]) {
			return "an ARP answer is not to who asked"
		}
		return ""
	}
	ip := out[l3:]
	if ethertype != 0x86dd || len(ip) != 72 || ip[40] != packettest.Advertisement {
		return "an answer is neither ARP nor an advertisement"
	}
	target, _ := netip.AddrFromSlice(ip[48:64])
	src, _ := netip.AddrFromSlice(ip[8:24])
	dst, _ := netip.AddrFromSlice(ip[24:40])
	word := binary.BigEndian.Uint32(ip)
	want := frameOf(ipv6{Src: target, Dst: dst, HopLimit: 255, TrafficClass: uint8(word >> 20), FlowLabel: word & 0xfffff},
		neighbor{Type: packettest.Advertisement, Flags: binary.BigEndian.Uint32(ip[44:]), Target: target},
		option{Type: packettest.TargetLink, Data: ip[66:72]})
	if src != target || !r.vips[target] || !bytes.Equal(ip, want) {
		return "an advertisement is malformed"
	}
	return ""
}

// payloadOf steps over as many tags as the program does.
func payloadOf(frame []byte) (at int, ethertype uint16) {
	ethertype = binary.BigEndian.Uint16(frame[12:])
	at = 14
	for range 2 {
		if ethertype != 0x8100 && ethertype != 0x88a8 || len(frame) < at+4 {
			break
		}
		ethertype = binary.BigEndian.Uint16(frame[at+2:])
		at += 4
	}
	return at, ethertype
}

// aboutVIP says whether a VIP's address is where it makes a frame the program's business: a
// destination, an ARP sender or target, a neighbor discovery target. Cheaply, and without parsing
// more than that: it may say yes too often.
func (r *randomRun) aboutVIP(frame []byte) bool {
	at, ethertype := payloadOf(frame)
	is := func(at, size int) bool {
		if len(frame) < at+size {
			return false
		}
		addr, _ := netip.AddrFromSlice(frame[at : at+size])
		return r.vips[addr]
	}
	switch ethertype {
	case 0x0800:
		return is(at+16, 4)
	case 0x0806:
		return is(at+14, 4) || is(at+24, 4)
	case 0x86dd:
		return is(at+24, 16) || len(frame) > at+40 && frame[at+6] == packettest.ProtocolICMPv6 &&
			slices.Contains([]byte{packettest.Solicitation, packettest.Advertisement}, frame[at+40]) && is(at+48, 16)
	}
	return false
}

// checkTotals: every frame is counted, once, with its length.
func (r *randomRun) checkTotals(t *testing.T, all counters) {
	t.Helper()
	var sum counted
	known := make(map[string]bool)
	for _, reason := range datapath.Reasons() {
		known[reason.Name] = true
	}
	for at, c := range all {
		sum.Packets += c.Packets
		sum.Bytes += c.Bytes
		if !known[at.Reason] {
			t.Errorf("no such reason: %s", at.Reason)
		}
	}
	if sum != r.sent {
		t.Errorf("counted %+v, sent %+v", sum, r.sent)
	}
}
