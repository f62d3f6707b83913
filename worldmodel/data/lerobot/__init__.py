"""Data sets of LeRobot (LeRobotDataset v3): importing them, and exporting stores as such."""
