package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// callOptions say what a rusher does, one after the other, and how often: not for how long, as a busy
// machine may stop it for any time.
type callOptions struct {
	To          []netip.AddrPort // one after the other
	Callers     int              // that do everything at the same time, each its part
	Requests    int              // over connections that stay, as many as are answered
	Connections int              // with a request on each, as many as are answered
	Paced       int              // requests over connections that stay
	Rate        int              // of those, a second
	Others      []int            // the processes that serve and direct: their time counts besides its own
}

// A callReport is what came of it.
type callReport struct {
	Requests, Connections, Paced callResult
}

type callResult struct {
	Done   int
	Took   time.Duration
	Slow   time.Duration // the 99th percentile of answers, from when the request was due
	Busy   time.Duration // of all processes that have to do with it, and of ksoftirqd
	By     map[string]int
	Failed []string
}

type rusher struct {
	callOptions
	dialer net.Dialer
	mu     sync.Mutex
	result callResult // of what it does now
	waits  []time.Duration
}

// playRusher is ready, works, and tells. It ends by itself.
func playRusher(_ context.Context, text []byte, ready func()) (any, error) {
	c := &rusher{dialer: net.Dialer{KeepAlive: -1, Timeout: patience}}
	if err := json.Unmarshal(text, &c.callOptions); err != nil {
		return nil, err
	}
	visits, err := c.open()
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, v := range visits {
			v.reset()
		}
	}()
	ready()
	var report callReport
	if report.Requests, err = c.measure(func(i int) { c.asking(i, visits[i], c.Requests, 0) }); err != nil {
		return nil, err
	}
	if report.Connections, err = c.measure(c.connecting); err != nil {
		return nil, err
	}
	pause := time.Duration(c.Callers) * time.Second / time.Duration(c.Rate)
	report.Paced, err = c.measure(func(i int) { c.asking(i, visits[i], c.Paced, pause) })
	return report, err
}

// measure lets all callers work.
func (c *rusher) measure(work func(caller int)) (callResult, error) {
	c.waits, c.result = nil, callResult{By: make(map[string]int)}
	before, err := c.busy()
	if err != nil {
		return c.result, err
	}
	began := time.Now()
	var all sync.WaitGroup
	for i := range c.Callers {
		all.Go(func() { work(i) })
	}
	all.Wait()
	c.result.Took = time.Since(began)
	after, err := c.busy()
	if err != nil {
		return c.result, err
	}
	c.result.Busy = after - before
	if slices.Sort(c.waits); len(c.waits) > 0 {
		c.result.Slow = c.waits[len(c.waits)*99/100]
	}
	c.result.Done = len(c.waits)
	return c.result, nil
}

// open makes the connections that stay.
func (c *rusher) open() ([]*visit, error) {
	visits := make([]*visit, c.Callers)
	for i := range visits {
		v, err := c.visit(i)
		if err != nil {
			return nil, err
		}
		if err := v.exchange(); err != nil {
			return nil, err
		}
		visits[i] = v
	}
	return visits, nil
}

func (c *rusher) visit(number int) (*visit, error) {
	conn, err := c.dialer.Dial("tcp", c.To[number%len(c.To)].String())
	if err != nil {
		return nil, err
	}
	return newVisit(conn), nil
}

// asking sends its part of so many requests over a connection: at once after each answer, or when they
// are due.
func (c *rusher) asking(number int, v *visit, count int, pause time.Duration) {
	var waits []time.Duration
	due := time.Now()
	if pause > 0 {
		due = due.Add(rand.N(pause)) // not all at once
	}
	for range count / c.Callers {
		if pause == 0 {
			due = time.Now()
		}
		time.Sleep(time.Until(due))
		if err := v.exchange(); err != nil {
			c.failed(number, err)
			break
		}
		waits = append(waits, time.Since(due))
		due = due.Add(pause)
	}
	c.done(v.node, waits)
}

// connecting opens a connection for each request.
func (c *rusher) connecting(number int) {
	for i := number; i < c.Connections; i += c.Callers {
		began := time.Now()
		v, err := c.visit(i)
		if err == nil {
			err = v.exchange()
			v.reset()
		}
		if err != nil {
			c.failed(i, err)
			return
		}
		c.done(v.node, []time.Duration{time.Since(began)})
	}
}

func (c *rusher) done(by string, waits []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = append(c.waits, waits...)
	c.result.By[by] += len(waits)
}

func (c *rusher) failed(number int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Failed = append(c.result.Failed, fmt.Sprintf("%d: %v", number, err))
}

// busy is how long this process and the others had a processor. What the kernel forwards, it forwards
// in the middle of a system call of the one who sent, and that is whose time it takes; if it gets
// too much, ksoftirqd does the rest.
func (c *rusher) busy() (time.Duration, error) {
	total := time.Duration(0)
	for _, pid := range append([]int{os.Getpid()}, c.Others...) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil || len(threads) == 0 {
			return 0, fmt.Errorf("process %d: no threads, %w", pid, err)
		}
		for _, file := range threads {
			text, err := os.ReadFile(file)
			if err != nil {
				continue // it ended
			}
			on, _, _ := strings.Cut(string(text), " ")
			ns, err := strconv.ParseInt(on, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", file, err)
			}
			total += time.Duration(ns)
		}
	}
	return total, nil
}

// softirqs are the processes that do what the kernel puts off.
func softirqs() ([]int, error) {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	var pids []int
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil || !strings.HasPrefix(string(text), "ksoftirqd/") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, err
}
