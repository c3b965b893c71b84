"""One file, one family of formats; `pattern` is what they are made of, `registry` lists them."""
