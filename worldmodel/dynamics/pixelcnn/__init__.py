"""Dynamics of "Predicting Video with VQVAE": PixelCNN priors over the two levels of codes of a clip."""
