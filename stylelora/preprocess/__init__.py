"""The program behind `preprocess`: a raw folder becomes a training set."""
