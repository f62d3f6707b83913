"""Training and the command line: collect play, train the model and the agents, report."""

if __name__ == "training":
    raise ImportError(
        "This package is imported as 'worldmodel.training', not as 'training' (it would load all a second time). "
        "Write: import worldmodel.training"
    )
