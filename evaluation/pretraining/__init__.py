"""What pre-training is worth: each encoder of a model repository, certified on data sets.

Run `python -m evaluation.pretraining --help`, or `make evaluate-pretraining`.
"""
