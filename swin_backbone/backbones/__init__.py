"""The networks: Swin Transformer V1 and V2, and the DeiT pyramid that the paper compares with."""
