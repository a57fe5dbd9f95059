package runtime

import "slices"

// invent makes up the metrics that w names and that are not among what was measured: a recipe that is rehearsed is to go
// on as if its jobs had measured them.
func (s *Session) invent(w Where, measured []Record) (recs []Record) {
	for _, metric := range w.Metric {
		if slices.ContainsFunc(measured, func(r Record) bool { return r.Metric == metric }) {
			continue
		}
		rec := Record{Run: s.Run, Time: s.now().UTC(), Kind: KindMeasurement, Metric: metric, Value: 1}
		if len(w.Source) > 0 {
			rec.Source = w.Source[0]
		}
		for name, values := range w.Labels {
			if rec.Labels == nil {
				rec.Labels = make(map[string]string)
			}
			rec.Labels[name] = values[0]
		}
		recs = append(recs, rec)
	}
	return recs
}
