"""One module for every format, each with ``read(path, **options) -> Content``; ``formats`` lists them."""
