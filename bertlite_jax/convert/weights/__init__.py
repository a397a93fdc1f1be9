"""Parameters as a flat tree, and our own folders of them, in float32 and in 8 bits."""
