"""What a student learns from its teachers: settings, and the checks of them."""
