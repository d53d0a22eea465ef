// Command guest does in a virtual machine what its argument says.
package main

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	switch os.Args[1] {
	case "report":
		report()
		os.Exit(7)
	case "crash":
		// Magic SysRq c: the kernel dereferences a null pointer.
		fmt.Println("before the crash")
		fmt.Println(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
	case "hang":
		fmt.Println("before the hang")
		time.Sleep(time.Hour)
	case "signal":
		fmt.Println(syscall.Kill(os.Getpid(), syscall.SIGKILL))
	}
}

// report ends without a newline.
func report() {
	var name unix.Utsname
	fmt.Println(unix.Uname(&name), unix.ByteSliceToString(name.Release[:]))
	for _, file := range []string{"/given/file", "/proc/sys/net/core/bpf_jit_enable", "/sys/class/net/lo/operstate"} {
		data, err := os.ReadFile(file)
		fmt.Printf("%s %q %v\n", file, data, err)
	}
	_, err := os.Stat("/sys/module/xt_cluster")
	fmt.Print("xt_cluster ", err, " CI=", os.Getenv("CI"))
}
