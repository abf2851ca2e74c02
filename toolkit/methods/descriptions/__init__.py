"""Classification of images by texts, with a frozen dual encoder."""
