package starlib

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// Every row of both tables, and every parameter and attribute, says what it is for.
func TestDocs(t *testing.T) {
	t.Parallel()
	check := func(b *Builtin) {
		if b.Doc == "" {
			t.Errorf("%s has no doc", b.Name)
		}
		for _, p := range b.Params {
			if p.Doc == "" || p.Type == "" {
				t.Errorf("%s: parameter %s has doc %q and type %q", b.Name, p.Name, p.Doc, p.Type)
			}
		}
	}
	for _, b := range slices.Concat(Builtins(), TestBuiltins()) {
		check(b)
		if b.Subject == "" {
			t.Errorf("%s has no subject", b.Name)
		}
	}
	for _, typ := range Types() {
		if typ.Doc == "" {
			t.Errorf("%s has no doc", typ.Name)
		}
		for _, a := range typ.Attrs {
			if a.Doc == "" || a.Type == "" {
				t.Errorf("%s.%s has doc %q and type %q", typ.Name, a.Name, a.Doc, a.Type)
			}
		}
		for _, m := range typ.Methods {
			check(m)
		}
	}
}

// The table of types says of each value what the value itself says.
func TestTypes(t *testing.T) {
	t.Parallel()
	values := map[string]starlark.Value{
		"Table": newTable(nil), "Measurement": row(runtime.Record{}), "Ready": &readyValue{}, "Metric": &metricValue{},
		"ClusterTable": newClusterTable(runtime.Table{Name: runtime.TableQueue}), "Secret": &secretValue{},
	}
	for _, role := range []runtime.Role{runtime.RoleService, runtime.RoleClient, runtime.RoleJob} {
		h := newHandle(t.Context(), &runtime.Handle{Role: role})
		values[h.Type()] = h
	}
	for _, typ := range Types() {
		v, ok := values[typ.Name]
		if !ok {
			t.Errorf("there is no value of type %s", typ.Name)
			continue
		}
		var want, got []string
		if v, ok := v.(starlark.HasAttrs); ok {
			want = slices.Sorted(slices.Values(v.AttrNames()))
		}
		for _, a := range typ.Attrs {
			got = append(got, a.Name)
		}
		for _, m := range typ.Methods {
			got = append(got, m.Name)
		}
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", typ.Name, d)
		}
	}
}

// The rows for what is Starlark's own are those of its modules.
func TestOwn(t *testing.T) {
	t.Parallel()
	names := predeclared()
	rows := make(map[string]bool)
	for _, b := range Own() {
		rows[b.Name] = true
	}
	for _, module := range []string{"json", "math", "time"} {
		m := names[module].(starlark.HasAttrs)
		for _, name := range m.AttrNames() {
			v, _ := m.Attr(name)
			if _, ok := v.(*starlark.Builtin); ok && !rows[module+"."+name] {
				t.Errorf("there is no row for %s.%s", module, name)
			}
			delete(rows, module+"."+name)
		}
	}
	delete(rows, "struct")
	if len(rows) > 0 {
		t.Errorf("rows for what there is not: %v", rows)
	}
}
