"""The Latent Video Transformer: an encoder over earlier slices of a video, a decoder over the current one."""
