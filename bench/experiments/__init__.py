"""The papers' experiments: each module is a command that makes a page of docs/results.

``python -m bench.experiments.NAME --budget cpu|full``; data are looked for in $EQUIKERNELS_DATA.
"""
