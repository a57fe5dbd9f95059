package ssh

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
