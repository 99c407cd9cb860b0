"""A page to try a trained model on: pictures of one's own, in a browser, on this machine."""
