// Delay is a TCP relay that adds a round-trip time: a laptop is tens of milliseconds from its cluster, the tests are
// microseconds from theirs.
//
// usage: delay RTT TARGET
//
// It listens on a free port of 127.0.0.1, prints that port, and relays until it is killed. Data goes half the
// round-trip time later, each way, at any rate: what it adds is latency, not a limit.
package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"sync"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("delay: ")
	if len(os.Args) != 3 {
		log.Fatal("usage: delay RTT TARGET")
	}
	rtt, err := time.ParseDuration(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go relay(conn.(*net.TCPConn), os.Args[2], rtt)
	}
}

// relay connects client to the target, one round trip late as a handshake would be.
func relay(client *net.TCPConn, target string, rtt time.Duration) {
	defer client.Close()
	time.Sleep(rtt)
	server, err := net.Dial("tcp", target)
	if err != nil {
		log.Print(err)
		return
	}
	defer server.Close()
	var both sync.WaitGroup
	both.Go(func() { pump(server.(*net.TCPConn), client, rtt/2) })
	both.Go(func() { pump(client, server.(*net.TCPConn), rtt/2) })
	both.Wait()
}

// A chunk is data and when it is to arrive.
type chunk struct {
	data []byte
	due  time.Time
}

// pump copies src to dst, the end of the stream included, each byte by delay later.
func pump(dst, src *net.TCPConn, delay time.Duration) {
	under := make(chan chunk, 4096) // on the way: enough for 32 KiB each every 10 µs
	go func() {
		defer close(under)
		for {
			buf := make([]byte, 32<<10)
			n, err := src.Read(buf)
			under <- chunk{buf[:n], time.Now().Add(delay)}
			if err != nil {
				return
			}
		}
	}()
	for c := range under {
		time.Sleep(time.Until(c.due))
		if _, err := dst.Write(c.data); err != nil {
			src.Close() // nobody wants the rest
			for range under {
			}
			return
		}
	}
	dst.CloseWrite()
}
