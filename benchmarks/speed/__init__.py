"""How fast training and sampling are, beside what people use now and beside the machine's limit: `make bench`."""
