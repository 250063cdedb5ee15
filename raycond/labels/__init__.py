"""Where soft labels come from: classifiers that answer for any image."""
