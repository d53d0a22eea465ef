package control

import (
	"context"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"
)

// seedParameter asks for the configuration with its seed.
const seedParameter = "seed"

type peerKey struct{}

// withPeer notes on a connection who is at its other end: the kernel's word, not the client's.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	bound, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := bound.SyscallConn()
	if err != nil {
		return ctx
	}
	var peer *unix.Ucred
	err = raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || peer == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer.Uid)
}

// trusted says whether a request comes from root or from the daemon's own user. The socket lets a
// whole group in, which may look and operate, and has no use for secrets.
func trusted(r *http.Request) bool {
	uid, known := r.Context().Value(peerKey{}).(uint32)
	return known && (uid == 0 || int(uid) == os.Geteuid())
}

func (d Daemon) config(w http.ResponseWriter, r *http.Request) error {
	withSeed := r.URL.Query().Has(seedParameter)
	if withSeed && !trusted(r) {
		return &Error{Code: http.StatusForbidden, Message: "only root may see the seed"}
	}
	send(w, http.StatusOK, "application/yaml", d.ConfigYAML(withSeed))
	return nil
}
