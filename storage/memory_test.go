package storage

import (
	"sync"
	"testing"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/runtimetest"
)

// A store in memory keeps the contract; to open it again is to open what was closed.
func TestMemory(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	stores := make(map[string]*memory)
	runtimetest.TestStore(t, func(t *testing.T, dir string) runtime.Store {
		mu.Lock()
		defer mu.Unlock()
		if stores[dir] == nil {
			stores[dir] = Memory().(*memory)
		}
		m := stores[dir]
		m.mu.Lock()
		m.closed = false
		m.mu.Unlock()
		return m
	})
}
