package program

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// credential says what a program that runs as a user may do: what he and his groups may. Nil is: the
// same as this process.
func credential(name string) (*syscall.Credential, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("user %s: unknown", name)
	}
	uid, err := number(u.Uid)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	if int(uid) == os.Geteuid() {
		return nil, nil
	}
	gid, err := number(u.Gid)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("user %s: groups: %w", name, err)
	}
	c := &syscall.Credential{Uid: uid, Gid: gid}
	for _, text := range groups {
		group, err := number(text)
		if err != nil {
			return nil, fmt.Errorf("user %s: groups: %w", name, err)
		}
		c.Groups = append(c.Groups, group)
	}
	return c, nil
}

func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err
}
