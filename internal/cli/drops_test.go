package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
)

// conflict is a sampled frame that was dropped a second ago.
func conflict() datapath.Drop {
	f := frame{to: shared, from: madeUpMAC, protocol: protoTCP, source: client4, dest: vip4, tcpFlags: tcpSYN}
	return datapath.Drop{
		Ago:       time.Second,
		Interface: "eth0",
		Scope:     "service web 192.0.2.80",
		Reason:    datapath.Reason{Name: "no-owner", Verdict: datapath.VerdictDrop, Explanation: "no node is eligible for the bucket"},
		Length:    54,
		Frame:     f.bytes(),
	}
}

// endless calls back until the context ends, and once more, as a reader does that sees it late.
func endless(ctx context.Context, f func(datapath.Drop)) error {
	for ctx.Err() == nil {
		f(conflict())
	}
	f(conflict())
	return nil
}

func TestDropsArePrintedInEveryFormat(t *testing.T) {
	for i, name := range formatNames() {
		var out bytes.Buffer
		a := &app{Env: Env{Stdout: &out, Now: func() time.Time { return now }}, output: format(i)}
		if err := a.followDrops(t.Context(), endless, 2, 0); err != nil {
			t.Fatal(err)
		}
		golden(t, "drops-"+name, out.String())
	}
}

func TestDropsEndWithTheTimeTheInterruptOrTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wait := func(ctx context.Context, _ func(datapath.Drop)) error { <-ctx.Done(); return nil }
		a := &app{Env: Env{Stdout: io.Discard, Now: time.Now}}

		start := time.Now()
		if err := a.followDrops(t.Context(), wait, 0, time.Minute); err != nil || time.Since(start) != time.Minute {
			t.Errorf("after %s: %v", time.Since(start), err)
		}

		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, interrupt)
		if err := a.followDrops(ctx, wait, 0, 0); err != nil {
			t.Errorf("interrupted: %v", err)
		}

		broken := errors.New("read ring buffer: no such map")
		fail := func(context.Context, func(datapath.Drop)) error { return broken }
		if err := a.followDrops(t.Context(), fail, 0, 0); !errors.Is(err, broken) {
			t.Errorf("error %v, want %v", err, broken)
		}
	})
}

// closedPipe is an output that nobody reads any more.
type closedPipe struct{ writes int }

func (p *closedPipe) Write([]byte) (int, error) {
	p.writes++
	return 0, io.ErrClosedPipe
}

func TestDropsEndWhenNobodyReadsThem(t *testing.T) {
	var pipe closedPipe
	a := &app{Env: Env{Stdout: &pipe, Now: time.Now}}
	if err := a.followDrops(t.Context(), endless, 0, 0); !errors.Is(err, io.ErrClosedPipe) || pipe.writes != 1 {
		t.Errorf("error %v after %d writes", err, pipe.writes)
	}
}
