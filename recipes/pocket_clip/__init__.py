"""How pocket-clip was made: ``python -m recipes.pocket_clip --eurosat DIR`` trains it from nothing."""
