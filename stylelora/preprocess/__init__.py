"""Implementation of `preprocess`: turns a raw folder of pictures into a training set."""
