package starlib

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

type listArgs struct {
	where map[string][]string
	since time.Duration
}

// clusterBuiltins show the target's cluster.
func clusterBuiltins() []*Builtin {
	list := func(table runtime.TableName, doc string, args ...argument[listArgs]) *Builtin {
		var names []string
		for _, c := range table.Columns() {
			names = append(names, c.Name)
		}
		args = append(args, arg("where", "column = value, or a list of values", func(a *listArgs) any { return &a.where }).rest("**"))
		return define(Builtin{Name: string(table), Returns: "ClusterTable", acts: true, plain: true, Doc: doc + " Its columns: " + strings.Join(names, ", ") + "."},
			listArgs{}, args, func(c *call, a *listArgs) (starlark.Value, error) {
				t, err := c.session.List(c.ctx, c.deed(), runtime.Listing{Table: table, Where: a.where, Since: a.since})
				if err != nil && !strings.HasPrefix(err.Error(), string(table)+": ") { // Slurm's own command may have said so
					err = fmt.Errorf("%s: %w", table, err)
				}
				if err != nil {
					return nil, err
				}
				return newClusterTable(t), nil
			})
	}
	return []*Builtin{
		list(runtime.TableQueue, `The jobs of the cluster that wait or run; user = "me" are yours.`),
		list(runtime.TableNodes, "The partitions of the cluster, and how many nodes of each are in which state."),
		list(runtime.TableAccounts, "Your jobs of late, also those that have ended, as accounting has them.",
			arg("since", "how far back; if not given, 24h", func(a *listArgs) any { return &a.since }).keyword()),
	}
}

// A clusterTable is a table of a cluster. Its rows stay in Go until a recipe asks for them.
type clusterTable struct {
	opaque
	runtime.Table
	methods starlark.StringDict
}

func newClusterTable(t runtime.Table) *clusterTable {
	v := &clusterTable{Table: t, methods: make(starlark.StringDict)}
	for _, b := range clusterTableMethods() {
		v.methods[b.Name] = b.value().BindReceiver(v)
	}
	return v
}

func (t *clusterTable) Type() string               { return "ClusterTable" }
func (t *clusterTable) Truth() starlark.Bool       { return len(t.Rows) > 0 }
func (t *clusterTable) Hash() (uint32, error)      { return 0, errors.New("unhashable: ClusterTable") }
func (t *clusterTable) Len() int                   { return len(t.Rows) }
func (t *clusterTable) AttrNames() []string        { return t.methods.Keys() }
func (t *clusterTable) Index(i int) starlark.Value { return t.row(i) }
func (t *clusterTable) Iterate() starlark.Iterator { return &clusterIterator{table: t} }

func (t *clusterTable) Attr(name string) (starlark.Value, error) {
	if m, ok := t.methods[name]; ok {
		return m, nil
	}
	return nil, noAttribute("ClusterTable", ".", name, t.AttrNames())
}

// String is the table with the columns of which something is known.
func (t *clusterTable) String() string {
	var header []string
	rows := make([][]string, len(t.Rows))
	for i, c := range t.Name.Columns() {
		if len(t.Rows) > 0 && !slices.ContainsFunc(t.Rows, func(row []string) bool { return row[i] != "" }) {
			continue
		}
		header = append(header, c.Name)
		for n, row := range t.Rows {
			rows[n] = append(rows[n], row[i])
		}
	}
	var b strings.Builder
	runtime.WriteTable(&b, header, rows)
	return strings.TrimSuffix(b.String(), "\n")
}

type clusterIterator struct {
	table *clusterTable
	next  int
}

func (it *clusterIterator) Next(p *starlark.Value) bool {
	if it.next == len(it.table.Rows) {
		return false
	}
	*p = it.table.row(it.next)
	it.next++
	return true
}

func (it *clusterIterator) Done() {}

// row is a row as recipes see it: an attribute for each column, None where nothing is known.
func (t *clusterTable) row(n int) starlark.Value {
	attrs := make(starlark.StringDict)
	for i, c := range t.Name.Columns() {
		attrs[c.Name] = textOrNone(t.Rows[n][i])
		if number, err := strconv.Atoi(t.Rows[n][i]); c.Number && err == nil {
			attrs[c.Name] = starlark.MakeInt(number)
		}
	}
	return rowValue(string(t.Name), attrs)
}

type columnArgs struct{ column string }

func clusterTableMethods() []*Builtin {
	return []*Builtin{
		define(Builtin{Name: "rows", Returns: "list of struct", Doc: "All rows, with an attribute for each column; None is not known."}, struct{}{}, nil,
			func(c *call, _ *struct{}) (starlark.Value, error) {
				return starlark.NewList(slices.Collect(starlark.Elements(c.recv.(*clusterTable)))), nil
			}),
		define(Builtin{Name: "values", Returns: "list", Doc: "What is in a column."}, columnArgs{},
			[]argument[columnArgs]{arg("column", "its name", func(a *columnArgs) any { return &a.column }).required()},
			func(c *call, a *columnArgs) (starlark.Value, error) { return c.recv.(*clusterTable).column(a.column) }),
	}
}

func (t *clusterTable) column(name string) (starlark.Value, error) {
	var names []string
	for _, c := range t.Name.Columns() {
		names = append(names, c.Name)
	}
	if !slices.Contains(names, name) {
		return nil, &runtime.Error{Hint: runtime.DidYouMean(name, names), Err: fmt.Errorf("there is no column %s", name)}
	}
	var values []starlark.Value
	for i := range t.Rows {
		v, err := t.row(i).(*structValue).Attr(name)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return starlark.NewList(values), nil
}
