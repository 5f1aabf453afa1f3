"""Data sets: generated ones, and checks and downloads of COCO and ADE20K."""
