"""`make bench-f2i`: certified against attacked radii of the shipped encoders, time and throughput.

python -m evaluation.bench_f2i --help
"""
