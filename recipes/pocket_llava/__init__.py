"""How pocket-llava was made: the frozen tower of pocket-clip, a projector and a small decoder that answers questions on Bazaar scenes."""
