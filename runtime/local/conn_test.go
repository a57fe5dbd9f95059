package local_test

import (
	"testing"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/local"
	"github.com/aifb/aifb/runtime/runtimetest"
)

func TestConn(t *testing.T) {
	t.Parallel()
	runtimetest.TestConn(t, t.TempDir(), func(*testing.T) runtime.Conn { return local.Conn{} })
}
