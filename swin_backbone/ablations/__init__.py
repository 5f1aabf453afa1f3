"""Ablations: Tables 4, 5, 6 and 9 of the Swin paper and Tables 1 and 6 of the Swin V2 paper; runs, timings, tables."""
