"""All benchmarks: `python -m benchmarks`; each writes its figures to `benchmarks/results`."""

from benchmarks import cvt, heads, losses, metrics, onnx, tagging, training

for benchmark in (heads, losses, metrics, training, cvt, onnx, tagging):
    print(f"\n{benchmark.__doc__.splitlines()[0]}")
    benchmark.main()
