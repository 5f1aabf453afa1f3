"""Data sets: the generated ones, and checks and downloads of COCO and ADE20K."""
