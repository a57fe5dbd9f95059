package starlib

import (
	"math"
	"strconv"

	"go.starlark.net/syntax"
	"go.yaml.in/yaml/v3"
)

// A yamlBenchmarks is what benchmarks says.
type yamlBenchmarks struct {
	count              syntax.Expr // the argument that says how many of each client there are, or nil
	delay              syntax.Expr // seconds between the starts of clients, or nil
	metrics            syntax.Expr // a list of what is expected to be measured, or nil
	delayAt, metricsAt *yaml.Node
}

func (p *yamlParser) benchmarks(top yamlMap, clients int) (b yamlBenchmarks) {
	f, ok := top.get("benchmarks")
	if !ok {
		return b
	}
	keys := p.known(f.value, "benchmarks", []yamlKey{{name: "num_clients"}, {name: "client_delay"}, {name: "metrics"}})
	if f, ok := keys.get("num_clients"); ok {
		if n := yamlNumber(1, yamlMaxNumber)(p, f); n != nil {
			b.count = p.keyword(f.key, "count", n)
		}
		if clients == 0 {
			p.errorf(f.key, "describe it under client:", "there is no client to start")
		}
	}
	if f, ok := keys.get("client_delay"); ok {
		b.delay, b.delayAt = p.clientDelay(f), f.value
	}
	if f, ok := keys.get("metrics"); ok {
		b.metrics, b.metricsAt = p.listValue(f), f.key
	}
	return b
}

func (p *yamlParser) clientDelay(f yamlField) syntax.Expr {
	s, ok := p.text(f)
	if !ok {
		return nil
	}
	if refers(s) {
		e := p.textExpr(f.value, s)
		if t := p.typeOf(e); e != nil && t != "int" && t != "float" {
			p.errorf(f.value, "it takes a ${{ NAME }} alone, whose default is one", "client_delay must be a number of seconds")
		}
		return e
	}
	switch n, err := strconv.ParseFloat(s, 64); {
	case err != nil || !(n >= 0 && n <= 24*3600):
		p.errorf(f.value, "", "client_delay must be a number of seconds, a day at most, not %s", yamlShort(s))
	case n == math.Trunc(n) && n > 0:
		return p.num(f.value, int64(n))
	case n > 0:
		return &syntax.Literal{Token: syntax.FLOAT, TokenPos: p.at(f.value), Raw: strconv.FormatFloat(n, 'f', -1, 64), Value: n}
	}
	return nil
}

// delayed makes of a client with a count a list of as many, each of which begins some seconds after the one before it.
// They cannot be started as one, because those that are wait for each other.
func (p *yamlParser) delayed(j *yamlJob, bench yamlBenchmarks) syntax.Expr {
	at := bench.delayAt
	call := j.start.(*syntax.CallExpr)
	count := syntax.Expr(nil)
	wait := syntax.Expr(&syntax.ListExpr{Lbrack: p.at(at), Rbrack: p.at(at), List: []syntax.Expr{
		p.binary(at, p.str(at, "sleep %s"), syntax.PERCENT, &syntax.ParenExpr{Lparen: p.at(at), Rparen: p.at(at),
			X: p.binary(at, bench.delay, syntax.STAR, p.ident(at, p.variable("i")))})}})
	var args []syntax.Expr
	for _, arg := range call.Args {
		switch kw, _ := arg.(*syntax.BinaryExpr); {
		case kw == nil || kw.Op != syntax.EQ:
			args = append(args, arg)
		case kw.X.(*syntax.Ident).Name == "count":
			count = kw.Y
		case kw.X.(*syntax.Ident).Name == "setup":
			wait = p.binary(at, wait, syntax.PLUS, kw.Y)
		default:
			args = append(args, arg)
		}
	}
	if one, ok := count.(*syntax.Literal); count == nil || ok && one.Value == int64(1) {
		return call // one begins at once
	}
	call.Args = append(args, p.keyword(at, "setup", wait))
	return &syntax.Comprehension{Lbrack: p.at(at), Body: call, Rbrack: p.at(at), Clauses: []syntax.Node{
		&syntax.ForClause{For: p.at(at), Vars: p.ident(at, p.variable("i")), In: p.at(at), X: p.call(at, "range", count)}}}
}
