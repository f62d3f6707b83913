"""How long and how fast the papers train.

Source: VideoGPT (arXiv:2104.10157) table 8 and section 4.1, VideoGen's submission (OpenReview 3InxcRQsYLf) section 4:
Adam, 32 clips in a batch. Differs: gradients are clipped to norm 1, which the texts do not mention.
Latent Video Transformer (arXiv:2006.10704) section 4.1: 32 images; Predicting Video with VQVAE (arXiv:2103.01950)
section 4: 16 clips. Differs: Adam's betas in the first are those of this library, not (0.9, 0.9) as in its public code;
the second does not state its rate, which is taken from the public code of VQ-VAE-2.
The prior of the Latent Video Transformer: batches of 64 as in its public code. Differs: Adam for RMSprop, whose rate of
2e-5 with a momentum of .9 moves weights as far as ten times that rate without.
"""

from dataclasses import replace

from worldmodel.training.fit import LoopConfig

PAPER_TOKENIZER_LOOP = LoopConfig(
    steps=100_000,
    batch_size=32,
    learning_rate=7e-4,
    final_share=1.0,
    warmup=0,
    weight_decay=0.0,
    beta2=0.999,
    evaluate_every=5_000,
    save_every=5_000,
)
# Predicting Video with VQVAE section 5: 1,000,000 steps, 512 clips in a batch of the top prior and 32 of the bottom
# prior, which train together here. Its optimiser is not stated.
PIXELCNN_LOOP = replace(PAPER_TOKENIZER_LOOP, steps=1_000_000, learning_rate=3e-4)
PAPER_PRIOR_LOOP = replace(PAPER_TOKENIZER_LOOP, steps=150_000, learning_rate=3e-4, final_share=0.0)
LVT_TOKENIZER_LOOP = replace(PAPER_TOKENIZER_LOOP, steps=500_000, learning_rate=3e-4)
HIERARCHY_LOOP = replace(PAPER_TOKENIZER_LOOP, steps=1_000_000, batch_size=16, learning_rate=3e-4)
LVT_PRIOR_LOOP = replace(PAPER_TOKENIZER_LOOP, steps=600_000, batch_size=64, learning_rate=2e-4)
