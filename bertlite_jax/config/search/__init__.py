"""Which shapes a search tries and how it judges them: settings, and the checks of them."""
