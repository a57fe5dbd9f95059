package ssh

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
)

// TestSilence checks that a dead network is noticed, and that a slow one is not taken for dead.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, slow = 45 * time.Second, 40 * time.Second
		near, far := net.Pipe()
		defer far.Close()
		w := watch(near, limit)
		go func() {
			for range 5 {
				time.Sleep(slow)
				far.Write([]byte("x"))
			}
		}()
		w.arm()
		start := time.Now()
		got, err := io.ReadAll(w)
		if string(got) != "xxxxx" || err == nil || !strings.Contains(err.Error(), "nothing heard from the server for 45s") {
			t.Errorf("%q, %v", got, err)
		}
		if d := time.Since(start); d != 5*slow+limit {
			t.Errorf("noticed after %v", d)
		}
	})
}

// A name server that does not answer says nothing about the name: the laptop may just have lost its network.
func TestNameServer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  net.DNSError
		hint string
	}{
		{net.DNSError{Err: "no such host", Name: "login", IsNotFound: true}, "no host of the SSH configuration"},
		{net.DNSError{Err: "server misbehaving", Name: "login", IsTemporary: true}, "network or VPN connected"},
	} {
		c := newConn("login")
		c.dial = c.dialer(writeConfig(t, ""), func(context.Context, string, string) (net.Conn, error) { return nil, &test.err })
		err := c.Run(t.Context(), runtime.Cmd{Args: []string{"true"}})
		if !strings.Contains(runtime.HintOf(err), test.hint) {
			t.Errorf("%v: the hint is %q, want %q", err, runtime.HintOf(err), test.hint)
		}
		c.Close()
	}
}
