"""The Swin paper's Tables 4, 5 and 6: runs, timings, tables and plots."""
