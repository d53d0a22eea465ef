package netlab

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on a new goroutine with a thread that ends with it, so that nothing fn does to
// the thread can reach other goroutines. It is never the main thread: that one cannot end, and
// /proc/self shows its namespace as the whole process's.
func onThread(fn func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			fn()
			return
		}
		// Hold the main thread until the other goroutine has a different one.
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			fn()
		}()
		<-locked
		runtime.UnlockOSThread()
	}()
}
