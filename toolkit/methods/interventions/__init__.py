"""Methods that change how a frozen multimodal language model reads its image, without training and without a trace when they leave."""
