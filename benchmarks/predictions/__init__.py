"""The cost model beside every latency in `benchmarks/results/`, and what it says about large models and many GPUs.

python -m benchmarks.predictions -o benchmarks/results/
python -m benchmarks.predictions --scaling
"""
