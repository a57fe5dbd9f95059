package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/aifb/aifb/runtime"
)

// A dialer makes clients.
type dialer struct {
	conf *config
	tcp  func(ctx context.Context, network, addr string) (net.Conn, error)
	ask  *asker

	similar []string // names that may have been meant

	work *sync.WaitGroup // counts what the clients leave running; not zero while dialing
}

// dial connects and logs in to a host through the given hosts or, if there are none, those that its configuration
// names. Path has the hosts that are to be reached through this one.
func (d *dialer) dial(ctx context.Context, name string, jumps, path []string) (*xssh.Client, error) {
	if slices.Contains(path, name) {
		return nil, runtime.Faultf(runtime.FaultInfra, "mend the ProxyJump of the SSH configuration",
			"ssh %s: the jump hosts form a loop: %s", name, strings.Join(append(path, name), " through "))
	}
	h, err := d.conf.resolve(name)
	if err != nil {
		return nil, err
	}
	if jumps == nil {
		jumps = h.jumps
	}
	conn, err := d.connect(ctx, h, jumps, append(path, name))
	if err != nil {
		return nil, err
	}
	return d.login(ctx, h, conn)
}

// login makes a client of a byte stream to the host's server.
func (d *dialer) login(ctx context.Context, h *host, conn net.Conn) (*xssh.Client, error) {
	watched := watch(conn, h.alive*time.Duration(h.missed))
	c, err := login(ctx, h, watched, d.ask)
	if err != nil {
		conn.Close()
		return nil, err
	}
	watched.arm()
	d.keepAlive(c, h.alive)
	return c, nil
}

// connect makes the byte stream to a host.
func (d *dialer) connect(ctx context.Context, h *host, jumps, path []string) (net.Conn, error) {
	var via *xssh.Client
	dial := d.tcp
	if last := len(jumps) - 1; last >= 0 {
		var before []string
		if last > 0 {
			before = jumps[:last]
		}
		var err error
		if via, err = d.dial(ctx, jumps[last], before, path); err != nil {
			return nil, fmt.Errorf("ssh %s: jump host: %w", h.name, err)
		}
		dial = via.DialContext
	}
	ctx, cancel := context.WithTimeoutCause(ctx, h.timeout, fmt.Errorf("no answer within %v", h.timeout))
	defer cancel()
	conn, err := dial(ctx, h.network, net.JoinHostPort(h.addr, h.port))
	if err == nil {
		return &hop{Conn: conn, via: via}, nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if via != nil {
		via.Close()
	}
	hint := fmt.Sprintf("is it up, and the network or VPN connected? Compare with: ssh %s", h.name)
	if e := (*net.DNSError)(nil); errors.As(err, &e) && e.IsNotFound && h.addr == h.name {
		hint = fmt.Sprintf("%s is no host of the SSH configuration, nor a name that the network knows", h.name)
		if meant := runtime.DidYouMean(h.name, d.similar); meant != "" {
			hint += "; " + meant
		}
	}
	return nil, runtime.Faultf(runtime.FaultInfra, hint, "ssh %s: connect to %s: %w",
		h.name, net.JoinHostPort(h.addr, h.port), err)
}

// A hop is a stream through another host, the connection to which ends with it.
type hop struct {
	net.Conn
	via *xssh.Client // nil: there is none
}

func (h *hop) Close() error {
	err := h.Conn.Close()
	if h.via != nil {
		h.via.Close()
	}
	return err
}

// A watchedConn closes itself when nothing was heard for too long. It does so once it is armed: before, the user may
// be thinking about a question.
type watchedConn struct {
	net.Conn
	limit  time.Duration
	timer  *time.Timer
	armed  atomic.Bool
	silent atomic.Bool
	closed atomic.Bool // by us
	broken atomic.Bool // by others: nothing more can be read
}

func watch(conn net.Conn, limit time.Duration) *watchedConn {
	w := &watchedConn{Conn: conn, limit: limit}
	w.timer = time.AfterFunc(limit, func() {
		if w.armed.Load() {
			w.silent.Store(true)
			conn.Close()
		}
	})
	return w
}

func (w *watchedConn) arm() {
	w.armed.Store(true)
	w.timer.Reset(w.limit)
}

func (w *watchedConn) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		w.broken.Store(!w.closed.Load())
		w.timer.Stop()
		return n, w.explain(err)
	}
	w.timer.Reset(w.limit)
	return n, nil
}

func (w *watchedConn) Close() error {
	w.closed.Store(true)
	w.timer.Stop()
	return w.Conn.Close()
}

// explain says why the connection was closed, if this is what closed it.
func (w *watchedConn) explain(err error) error {
	if w.silent.Load() {
		return fmt.Errorf("nothing heard from the server for %v", w.limit)
	}
	return err
}

// keepAlive makes the server say something at each interval, until c ends.
func (d *dialer) keepAlive(c *xssh.Client, interval time.Duration) {
	ended := make(chan struct{})
	d.work.Go(func() {
		c.Wait()
		close(ended)
	})
	d.work.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				c.SendRequest(keepAliveRequest, true, nil)
			case <-ended:
				return
			}
		}
	})
}

// keepAliveRequest is what OpenSSH sends. Servers answer that they do not know it, which is an answer.
const keepAliveRequest = "keepalive@openssh.com"
