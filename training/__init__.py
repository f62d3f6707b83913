"""Training and the command line: collect play, train the model and the agents, report."""

if __name__ == "training":
    raise ImportError(
        "This package is imported as 'worldmodel.training', not as 'training' (every module would be loaded twice). "
        "Write: import worldmodel.training"
    )
