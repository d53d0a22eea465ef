//go:build !race

package member_test

const slowed = false
