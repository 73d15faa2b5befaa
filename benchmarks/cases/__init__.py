"""The benchmarks; `benchmarks.catalogue` names them. Each builds what it needs and returns a `measure.Work`."""
