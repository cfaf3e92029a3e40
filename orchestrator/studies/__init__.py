"""The paper's experiments as study files, one for each figure: `toscore studies` lists them."""
