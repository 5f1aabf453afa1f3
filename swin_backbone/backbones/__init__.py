"""The networks: Swin Transformer V1 and V2, Video Swin, Swin-Mixer, and the DeiT pyramid of the paper's comparison."""
