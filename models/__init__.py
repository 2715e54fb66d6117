"""Complete models: networks, training recipes, evaluation and figures. Imported as ``equikernels.models``."""
